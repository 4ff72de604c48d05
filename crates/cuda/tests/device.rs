//! Tests of opening a device, and of threads that share one: the order of their work, and freed
//! memory.
//!
//! They need the CUDA device in `VXF_TEST_DEVICE`, by default `cuda:0`; the emulated one
//! (`tools/cuda/without-a-gpu`) suffices.

use std::thread;

use candle_core::cuda_backend::cudarc::cublas::result::CublasError;
use candle_core::cuda_backend::cudarc::cublas::sys as cublas;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute as Attribute;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::cuda_backend::{CudaError, WrapErr};
use candle_core::{DType, Device, Error, Result, Tensor};
use vxf_cuda::{Side, add, enter, facts, free, open, out_of_memory, product_into, tensor, with};

fn number() -> usize {
    let name = std::env::var("VXF_TEST_DEVICE").unwrap_or_else(|_| "cuda:0".into());
    let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
    number.expect("VXF_TEST_DEVICE is cuda:N")
}

fn device() -> Device {
    open(number()).expect("the device")
}

/// The pending error of an earlier call without a result, such as a free.
fn pending_error(device: &Device) -> Result<()> {
    device.as_cuda_device()?.cuda_stream().context().check_err().w()
}

/// The allocated bytes of the device.
fn used() -> Result<u64> {
    let mut used = 0_u64;
    // SAFETY: the attribute is a number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(result::device::get(number() as i32).w()?);
        let attribute = Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        result::mem_pool::get_attribute(pool.w()?, attribute, (&raw mut used).cast()).w()?;
    }
    Ok(used)
}

#[test]
fn all_threads_get_one_device_on_a_stream_of_its_own() -> Result<()> {
    let here = device();
    let there = thread::spawn(device).join().expect("no panic");
    assert!(here.same_device(&there));
    let stream = |device: &Device| -> Result<usize> {
        Ok(device.as_cuda_device()?.cuda_stream().cu_stream() as usize)
    };
    assert_eq!(stream(&here)?, stream(&there)?);
    // Handles up to 2 are default streams, of the context or of the calling thread.
    assert!(stream(&here)? > 2);
    Ok(())
}

/// No thread waits for another: the stream alone orders their work.
#[test]
fn a_thread_reads_the_output_of_another() -> Result<()> {
    let device = device();
    for round in 0..20_u32 {
        let made = thread::scope(|scope| {
            let make = || -> Result<Tensor> {
                let x = Tensor::from_vec(vec![round as f32; 1000], 1000, &device)?;
                let sum = with([&x, &x], |[x, y]| add(x, y))?;
                Ok(tensor(sum, 1000))
            };
            scope.spawn(make).join().expect("no panic")
        })?;
        assert_eq!(made.to_vec1::<f32>()?, vec![2.0 * round as f32; 1000], "round {round}");
    }
    Ok(())
}

#[test]
fn a_thread_that_never_used_the_device_frees_memory() -> Result<()> {
    const BYTES: u64 = 64 << 20;
    let device = device();
    pending_error(&device)?;
    let large = Tensor::zeros((BYTES / 4) as usize, DType::F32, &device)?;
    let before = used()?;
    thread::spawn(move || drop(large)).join().expect("no panic");
    pending_error(&device)?;
    device.synchronize()?;
    // The other tests of this file use far less.
    assert!(used()? + BYTES / 2 < before, "{} bytes of {before} are still in use", used()?);
    Ok(())
}

/// Matrix products and launches without allocations bind the context themselves; candle's own
/// operations rely on [`enter`].
#[test]
fn a_new_thread_multiplies_launches_and_adds() -> Result<()> {
    let device = device();
    let x = Tensor::ones((3, 3), DType::F32, &device)?;
    let sum = Tensor::zeros((3, 3), DType::F32, &device)?;
    // Loads the kernels, so that the threads find them loaded.
    assert_eq!((&x + &x)?.sum_all()?.to_vec0::<f32>()?, 18.0);
    thread::scope(|scope| -> Result<()> {
        let multiply = || {
            with([&x, &sum], |[x, sum]| {
                product_into(sum, 1.0, Side::new(x, 3, 3), Side::new(x, 3, 3))
            })
        };
        scope.spawn(multiply).join().expect("no panic")?;
        let masked = || with([&x, &sum], |[x, sum]| vxf_cuda::add_masked(sum, x, x));
        scope.spawn(masked).join().expect("no panic")?;
        let added = scope.spawn(|| enter(&device).and_then(|()| &sum + &x)).join();
        assert_eq!(added.expect("no panic")?.to_vec2::<f32>()?, vec![vec![5.0; 3]; 3]);
        Ok(())
    })
}

/// Listing devices does not create contexts, which take memory and fail on a full device.
#[test]
fn devices_are_described_without_a_context() -> Result<()> {
    let _ours = device();
    let all = facts()?;
    let numbers: Vec<usize> = all.iter().map(|facts| facts.number).collect();
    assert_eq!(numbers, (0..all.len()).collect::<Vec<_>>());
    for facts in &all {
        assert!(facts.total > 0 && !facts.name.is_empty(), "{facts:?}");
        let (mut flags, mut active) = (0, 0);
        // SAFETY: the driver has named the device, and writes two numbers.
        unsafe {
            let device = result::device::get(facts.number as i32).w()?;
            sys::cuDevicePrimaryCtxGetState(device, &raw mut flags, &raw mut active)
                .result()
                .w()?;
        }
        assert_eq!(active == 1, facts.number == number(), "{facts:?}");
    }
    Ok(())
}

/// Partial sums of a product are added in `f32`, whatever the type of its output.
#[test]
fn products_are_summed_in_single_precision() -> Result<()> {
    let device = device();
    let blas = device.as_cuda_device()?.cublas_handle();
    let mut mode = cublas::cublasMath_t::CUBLAS_DEFAULT_MATH;
    // SAFETY: the handle is the device's own.
    unsafe { cublas::cublasGetMathMode(*blas.handle(), &raw mut mode) }.result().w()?;
    assert_eq!(mode, cublas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    Ok(())
}

/// Out-of-memory errors are recognised, whichever library returns them.
#[test]
fn a_full_device_is_recognised() -> Result<()> {
    let from_blas = |status| Error::Cuda(Box::new(CudaError::Cublas(CublasError(status))));
    let full = cublas::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED;
    assert_eq!(out_of_memory(&from_blas(full)), Some(None));
    let other = cublas::cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE;
    assert_eq!(out_of_memory(&from_blas(other)), None);

    let device = device();
    let beyond = facts()?[number()].total / size_of::<f32>() + 1;
    let error = Tensor::zeros(beyond, DType::F32, &device).expect_err("more than there is");
    assert_eq!(out_of_memory(&error), Some(None), "{error}");
    Ok(())
}

/// Free memory can be queried for a device by its number, on any thread.
#[test]
fn a_new_thread_can_query_free_memory() -> Result<()> {
    let total = facts()?[number()].total;
    let free = thread::spawn(|| free(number())).join().expect("no panic")?;
    assert!(free > 0 && free <= total, "{free} of {total}");
    Ok(())
}
