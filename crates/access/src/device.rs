//! Choosing the computing device, and listing the available ones.

use candle_core::{Device, DeviceLocation};
use serde::Serialize;

use crate::{Error, Result};

/// The device called `name`: `cpu`, `cuda`, `cuda:N`, or `auto` (the first usable CUDA device, or else
/// the CPU).
///
/// # Errors
/// When there is no such device, it is too old for the kernels, or this program was built without CUDA.
pub fn device(name: &str) -> Result<Device> {
    let fail = |problem: String| Error::Device { name: name.to_owned(), problem };
    let number = match (name, name.strip_prefix("cuda:")) {
        ("cpu", _) => return Ok(Device::Cpu),
        ("auto", _) => return Ok(cuda(0).unwrap_or(Device::Cpu)),
        ("cuda", _) => Some(0),
        (_, Some(number)) => number.parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| fail("write auto, cpu, cuda or cuda:N".into()))?;
    cuda(number).map_err(fail)
}

/// The name of a device, in the form that [`device`] accepts.
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".into(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// A CUDA device as described by its driver.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cuda {
    /// Its name in `--device`.
    pub device: String,
    /// Its product name.
    pub name: String,
    /// Its compute capability.
    pub capability: String,
    /// Its memory in bytes.
    pub total: u64,
    /// Its free memory in bytes, if known.
    pub free: Option<u64>,
    /// Why it cannot be used; `None` if it can.
    pub problem: Option<String>,
}

#[cfg(feature = "cuda")]
mod on_cuda {
    use vxf_cuda::{Facts, LOWEST, facts};

    use super::{Cuda, Device};

    const NO_DRIVER: &str = "no NVIDIA driver was found on this machine, or it sees no GPU \
                             (`vxf doctor` shows what there is); write --device cpu";

    fn all() -> Result<Vec<Facts>, String> {
        match facts() {
            Ok(facts) if facts.is_empty() => Err(NO_DRIVER.into()),
            Ok(facts) => Ok(facts),
            Err(error) => Err(format!("{NO_DRIVER} ({})", first_line(&error))),
        }
    }

    /// Candle's errors may carry a backtrace.
    fn first_line(error: &candle_core::Error) -> String {
        error.to_string().lines().next().unwrap_or_default().to_owned()
    }

    fn too_old(facts: &Facts) -> Option<String> {
        let ((major, minor), (least, under)) = (facts.capability, LOWEST);
        (facts.capability < LOWEST).then(|| {
            format!(
                "{} has compute capability {major}.{minor}, and the kernels need {least}.{under} \
                 (Ampere, 2020) or later; write --device cpu",
                facts.name
            )
        })
    }

    pub(super) fn cuda(number: usize) -> Result<Device, String> {
        let all = all()?;
        let Some(facts) = all.get(number) else {
            let last = all.len() - 1;
            return Err(format!("there is no such GPU: they are numbered from 0 to {last}"));
        };
        match too_old(facts) {
            Some(problem) => Err(problem),
            None => vxf_cuda::open(number).map_err(|error| first_line(&error)),
        }
    }

    pub(super) fn found() -> Result<Vec<Cuda>, String> {
        let describe = |facts: Facts| Cuda {
            device: format!("cuda:{}", facts.number),
            capability: format!("{}.{}", facts.capability.0, facts.capability.1),
            total: facts.total as u64,
            free: free(facts.number),
            problem: too_old(&facts),
            name: facts.name,
        };
        Ok(all()?.into_iter().map(describe).collect())
    }

    pub(super) fn free(number: usize) -> Option<u64> {
        vxf_cuda::free(number).ok().map(|free| free as u64)
    }

    pub(super) use vxf_cuda::enter;
}

#[cfg(not(feature = "cuda"))]
mod on_cuda {
    use super::{Cuda, Device};

    pub(super) fn enter(_: &Device) -> candle_core::Result<()> {
        Ok(())
    }

    const WITHOUT: &str = "this program was built without CUDA; docs/cuda.md says how to build it \
                           with it, or write --device cpu";

    pub(super) fn cuda(_: usize) -> Result<Device, String> {
        Err(WITHOUT.into())
    }

    pub(super) fn found() -> Result<Vec<Cuda>, String> {
        Err(WITHOUT.into())
    }

    pub(super) fn free(_: usize) -> Option<u64> {
        None
    }
}

use on_cuda::cuda;

/// The CUDA devices of this machine.
///
/// # Errors
/// When there is none; the text says why.
pub fn found() -> Result<Vec<Cuda>, String> {
    on_cuda::found()
}

/// Free memory of a device in bytes, if known.
pub fn free(device: &Device) -> Option<u64> {
    match device.location() {
        DeviceLocation::Cpu => host_memory(),
        DeviceLocation::Cuda { gpu_id } => on_cuda::free(gpu_id),
        DeviceLocation::Metal { .. } => None,
    }
}

/// Prepares the current thread for work on a device; every new thread calls this first.
///
/// # Errors
/// When the driver returns an error.
pub fn enter(device: &Device) -> Result<()> {
    Ok(on_cuda::enter(device).map_err(vxf_core::Error::from)?)
}

fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse().ok()
    };
    let limit = number("memory.max").zip(number("memory.current"));
    Some(limit.map_or(free, |(most, taken)| free.min(most.saturating_sub(taken))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert!(device("cpu").is_ok_and(|device| device.is_cpu()));
        let error = device("tpu").expect_err("no such device");
        assert!(error.to_string().contains("write auto, cpu, cuda or cuda:N"), "{error}");
        assert_eq!(name(&Device::Cpu), "cpu");
        let auto = device("auto").expect("there is always one");
        assert!(device(&name(&auto)).is_ok());
    }

    /// Without a GPU or GPU support, the error says what to do.
    #[test]
    fn a_missing_device_is_reported() {
        let error = device("cuda:999").expect_err("no such GPU").to_string();
        assert!(error.contains("write --device cpu") || error.contains("numbered"), "{error}");
    }
}
