//! The device of the laws.

use std::sync::OnceLock;

use candle_core::Device;

/// The device on which laws are checked: the CPU, unless `VXF_TEST_DEVICE` names another, such as
/// `cuda:0` (with the feature `cuda`).
///
/// # Panics
/// When there is no such device.
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let device = DEVICE.get_or_init(|| match std::env::var("VXF_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok(name) => cuda(name),
    });
    // Each test has a thread of its own.
    #[cfg(feature = "cuda")]
    vxf_cuda::enter(device).expect("the device");
    device
}

#[cfg(feature = "cuda")]
fn cuda(name: &str) -> Device {
    let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
    vxf_cuda::open(number.expect("VXF_TEST_DEVICE is cpu or cuda:N")).expect("the device")
}

#[cfg(not(feature = "cuda"))]
fn cuda(name: &str) -> Device {
    panic!("VXF_TEST_DEVICE is {name}, and these tests were built without the feature `cuda`")
}
