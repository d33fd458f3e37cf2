//! Settings under `/proc/sys/net`. That directory shows the network namespace of
//! the thread that looks, so it follows [`enter_netns`](super::enter_netns).

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Family, NetError};

/// What decides about reverse path filtering of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpFilter {
    /// The value for all devices.
    pub all: u32,
    /// The value of this one.
    pub device: u32,
}

impl RpFilter {
    /// What the kernel goes by: 0 off, 1 strict, 2 loose.
    pub fn effective(self) -> u32 {
        self.all.max(self.device)
    }

    /// Whether a packet is dropped unless the route to its source is by the device it came in on.
    pub fn is_strict(self) -> bool {
        self.effective() == 1
    }
}

/// Reverse path filtering of this device.
pub fn rp_filter(device: &str) -> Result<RpFilter, NetError> {
    Ok(RpFilter {
        all: read(&["ipv4", "conf", "all", "rp_filter"])?,
        device: read(&["ipv4", "conf", device, "rp_filter"])?,
    })
}

/// The same of a device that may be gone by now.
pub fn rp_filter_if_there(device: &str) -> Result<Option<RpFilter>, NetError> {
    let value = read_if_there(&["ipv4", "conf", device, "rp_filter"])?;
    value
        .map(|device| {
            let all = read(&["ipv4", "conf", "all", "rp_filter"])?;
            Ok(RpFilter { all, device })
        })
        .transpose()
}

/// Sets this device's value. The effective one is no lower than that for all devices.
pub fn set_rp_filter(device: &str, value: u32) -> Result<(), NetError> {
    let parts = ["ipv4", "conf", device, "rp_filter"];
    let written = path(&parts).and_then(|path| fs::write(path, value.to_string()));
    written.map_err(|cause| failed(&parts, cause))
}

/// The name of this device's value, as `sysctl` takes it.
pub fn rp_filter_name(device: &str) -> String {
    name(&["ipv4", "conf", device, "rp_filter"])
}

/// Whether what enters by this device is forwarded, of IPv4; `None` where there is no such device.
pub fn device_forwarding(device: &str) -> Result<Option<bool>, NetError> {
    let value = read_if_there(&["ipv4", "conf", device, "forwarding"])?;
    Ok(value.map(|value| value != 0))
}

/// The name of that, as `sysctl` takes it.
pub fn device_forwarding_name(device: &str) -> String {
    name(&["ipv4", "conf", device, "forwarding"])
}

/// Whether the reverse path filter of this device looks at marks.
pub fn src_valid_mark(device: &str) -> Result<bool, NetError> {
    let read = |device| read_if_there(&["ipv4", "conf", device, "src_valid_mark"]);
    let is_on = |value: Option<u32>| value.is_some_and(|value| value != 0);
    Ok(is_on(read("all")?) || is_on(read(device)?))
}

/// The name of this device's value, as `sysctl` takes it.
pub fn src_valid_mark_name(device: &str) -> String {
    name(&["ipv4", "conf", device, "src_valid_mark"])
}

/// Whether the kernel's own answers have the mark of what they answer.
pub fn fwmark_reflect(family: Family) -> Result<bool, NetError> {
    let version = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let value = read_if_there(&[version, "fwmark_reflect"])?;
    Ok(value.is_some_and(|value| value != 0))
}

/// Whether IPv4 packets are forwarded.
pub fn ipv4_forwarding() -> Result<bool, NetError> {
    Ok(read(&["ipv4", "ip_forward"])? != 0)
}

/// Whether IPv6 packets are forwarded; `None` where the kernel has no IPv6.
pub fn ipv6_forwarding() -> Result<Option<bool>, NetError> {
    let value = read_if_there(&["ipv6", "conf", "all", "forwarding"])?;
    Ok(value.map(|value| value != 0))
}

/// Whether IPv6 is switched off on this device; `None` where there is no such
/// device, or no IPv6 on it: its MTU is below 1280, or the kernel has none.
pub fn ipv6_disabled(device: &str) -> Result<Option<bool>, NetError> {
    let value = read_if_there(&["ipv6", "conf", device, "disable_ipv6"])?;
    Ok(value.map(|value| value != 0))
}

/// The name of that, as `sysctl` takes it.
pub fn ipv6_disabled_name(device: &str) -> String {
    name(&["ipv6", "conf", device, "disable_ipv6"])
}

fn read_if_there(parts: &[&str]) -> Result<Option<u32>, NetError> {
    match read(parts) {
        Err(NetError::Sysctl { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn read(parts: &[&str]) -> Result<u32, NetError> {
    let text = path(parts).and_then(fs::read_to_string);
    text.and_then(|text| {
        text.trim().parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no number"))
        })
    })
    .map_err(|cause| failed(parts, cause))
}

/// A device name may hold dots, so it is a path from the beginning.
fn path(parts: &[&str]) -> io::Result<PathBuf> {
    let is_name = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
    if !parts
        .iter()
        .all(|part| is_name(part) && !part.contains('/'))
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name"));
    }
    Ok(PathBuf::from("/proc/sys/net").join(parts.join("/")))
}

/// `sysctl` takes the first separator it finds for all of them.
fn name(parts: &[&str]) -> String {
    let has_dots = parts.iter().any(|part| part.contains('.'));
    let separator = if has_dots { "/" } else { "." };
    ["net"]
        .iter()
        .chain(parts)
        .copied()
        .collect::<Vec<_>>()
        .join(separator)
}

fn failed(parts: &[&str], cause: io::Error) -> NetError {
    NetError::Sysctl {
        name: name(parts),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(rp_filter_name("wg0"), "net.ipv4.conf.wg0.rp_filter");
        assert_eq!(rp_filter_name("lan0.10"), "net/ipv4/conf/lan0.10/rp_filter");
    }

    #[test]
    fn no_way_out_of_the_directory() {
        for device in ["", ".", "..", "all/../../../..", "../../vm"] {
            let error = set_rp_filter(device, 2).expect_err("no device");
            assert!(error.to_string().ends_with(": not a name"), "{error}");
            assert!(rp_filter(device).is_err(), "{device:?}");
        }
    }

    #[test]
    fn the_greater_one_counts() {
        let filter = |all, device| RpFilter { all, device }.effective();
        assert_eq!(filter(0, 1), 1);
        assert_eq!(filter(2, 1), 2);
        assert_eq!(
            filter(1, 0),
            1,
            "a device cannot be freed of what holds for all"
        );
    }
}
