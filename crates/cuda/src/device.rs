//! Opens a device, and describes devices.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute as Attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result};
use candle_core::{CudaDevice, Device, Result, bail};

use crate::gemm;
use crate::memory::keep;

/// The lowest compute capability that the kernels support.
pub const LOWEST: (i32, i32) = (8, 0);

/// A device, as described by the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Its compute capability.
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub total: usize,
}

/// Describes all devices without creating a context: a context takes half a gigabyte of each, and
/// fails on a full one.
///
/// # Errors
/// When there is no driver or no device.
pub fn facts() -> Result<Vec<Facts>> {
    let count = CudaContext::device_count().w()?;
    (0..usize::try_from(count).unwrap_or(0))
        .map(|number| {
            let device = result::device::get(number as i32).w()?;
            // SAFETY: the driver has just named the device.
            let attribute = |which| unsafe { result::device::get_attribute(device, which) }.w();
            let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            // SAFETY: as above.
            let total = unsafe { result::device::total_mem(device) }.w()?;
            let name = result::device::get_name(device).w()?;
            Ok(Facts { number, name, capability: (major, minor), total })
        })
        .collect()
}

/// Opens the device `number`; always returns the same one.
///
/// # Errors
/// When the driver fails.
pub fn open(number: usize) -> Result<Device> {
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    check_stream(cuda)?;
    // SAFETY: all work runs on the one stream of the device, in program order.
    unsafe { cuda.disable_event_tracking() };
    gemm::set_up(cuda)?;
    keep(number)?;
    open.insert(number, device.clone());
    Ok(device)
}

/// Threads share tensors and do not wait for each other's work, so all work must be on one stream.
/// The default stream of a thread (handle 2) is a different stream on every thread, and memory on
/// it can only be freed by a thread that has a context. The stream that a device was opened with
/// has its own context.
fn check_stream(device: &CudaDevice) -> Result<()> {
    match device.cuda_stream().cu_stream() as usize {
        default @ 0..=2 => bail!("the device was opened on the default stream (handle {default})"),
        _ => Ok(()),
    }
}

/// Makes the device's context current on this thread. A thread must call this before it uses a CUDA
/// device, because some of candle's calls assume a context.
///
/// # Errors
/// When the driver fails, or an earlier call failed that could not return an error.
pub fn enter(device: &Device) -> Result<()> {
    match device {
        Device::Cuda(device) => bind(device),
        Device::Cpu | Device::Metal(_) => Ok(()),
    }
}

pub(crate) fn bind(device: &CudaDevice) -> Result<()> {
    device.cuda_stream().context().bind_to_thread().w()
}
