//! Memory and processor time of this process.

use candle_core::Device;
use vxf_core::Result;

/// Peak GPU memory in MiB since the last call.
pub(crate) fn gpu_memory(device: &Device) -> Result<Option<f64>> {
    #[cfg(feature = "cuda")]
    if let candle_core::DeviceLocation::Cuda { gpu_id } = device.location() {
        return Ok(Some(vxf_cuda::peak(gpu_id)? as f64 / f64::from(1 << 20)));
    }
    let _ = device;
    Ok(None)
}

/// CPU seconds of this process so far.
pub(crate) fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or(f64::NAN) + ticks(12).unwrap_or(f64::NAN)) / 100.0
}

/// A value of `/proc/self/status` in MiB.
pub(crate) fn memory(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|field| field.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
