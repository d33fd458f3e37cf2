//! A network namespace for one thread, with the devices of the packet table.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};

use crate::packets::world::{DEVICES, LAN_MAC, MTU};

/// The devices in the namespace that this thread is in now. The namespace ends with the thread.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    /// The device on the LAN.
    pub lan: u32,
    /// The tunnels' devices, in the order of [`DEVICES`].
    pub tunnels: [u32; DEVICES.len()],
}

/// Puts this thread into a new namespace and makes the devices there.
///
/// They are TAP and TUN devices that nobody reads: the program asks a device for its number and its
/// MTU, nothing more.
pub fn enter() -> Result<Devices> {
    unshare(CloneFlags::CLONE_NEWNET).context("new network namespace")?;
    let mac = LAN_MAC.map(|byte| format!("{byte:02x}")).join(":");
    ip(&["tuntap", "add", "lan0", "mode", "tap"])?;
    ip(&["link", "set", "lan0", "address", &mac, "up"])?;
    let mut tunnels = [0; DEVICES.len()];
    for (name, number) in DEVICES.iter().zip(&mut tunnels) {
        let mtu = MTU.to_string();
        ip(&["tuntap", "add", name, "mode", "tun"])?;
        ip(&["link", "set", name, "mtu", &mtu, "up"])?;
        *number = ifindex(name)?;
    }
    Ok(Devices {
        lan: ifindex("lan0")?,
        tunnels,
    })
}

/// The number of a device.
pub fn ifindex(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| format!("device {name}"))
}

/// Runs `ip`, which inherits the thread's namespace.
pub fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("ip (package iproute2)")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), stderr.trim_end());
    }
    Ok(())
}

/// Why the program tier cannot run here, if it cannot.
pub fn missing() -> Option<String> {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    if effective >> CAP_SYS_ADMIN & 1 == 0 {
        return Some("needs root (CAP_SYS_ADMIN) to load programs".into());
    }
    let has_ip = Command::new("ip").arg("-V").output().is_ok();
    (!has_ip).then(|| "needs ip (package iproute2)".into())
}
