//! Opening a device, and what is to be known of one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::{Device, Result};

use crate::memory::keep;

/// The lowest compute capability that the kernels run on.
pub const LOWEST: (i32, i32) = (8, 0);

/// A device, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its number.
    pub number: usize,
    /// What it is called.
    pub name: String,
    /// Its compute capability.
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub total: usize,
    /// Bytes that are free now.
    pub free: usize,
}

/// All devices.
///
/// # Errors
/// When there is no driver or no device.
pub fn facts() -> Result<Vec<Facts>> {
    let count = CudaContext::device_count().w()?;
    (0..usize::try_from(count).unwrap_or(0))
        .map(|number| {
            let context = CudaContext::new(number).w()?;
            let (free, total) = context.mem_get_info().w()?;
            let capability = context.compute_capability().w()?;
            Ok(Facts { number, name: context.name().w()?, capability, total, free })
        })
        .collect()
}

/// The device `number`; the same one however often it is asked for.
///
/// # Errors
/// When the driver refuses.
pub fn open(number: usize) -> Result<Device> {
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda(number)?;
    // SAFETY: everything runs on the one stream of the device, in the order of the program.
    unsafe { device.as_cuda_device()?.disable_event_tracking() };
    keep(number)?;
    open.insert(number, device.clone());
    Ok(device)
}
