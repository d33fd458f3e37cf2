//! A network namespace for one thread, with the devices of the packet table.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};

use crate::packets::{
    build::{Arrival, HOST_MAC},
    recipe::Hook,
    world::{DEVICES, LAN_MAC, MTU, SMALL, SMALL_MTU},
};

/// The devices in the namespace that this thread is in now. The namespace ends with the thread.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    /// The device on the LAN.
    pub lan: u32,
    /// What stands for a VLAN device on it.
    pub vlan: u32,
    /// The device on the LAN that has no MAC headers.
    pub bare: u32,
    /// The tunnels' devices, in the order of [`DEVICES`].
    pub tunnels: [u32; DEVICES.len()],
}

impl Devices {
    /// The device where a packet arrives.
    pub fn of(&self, arrival: &Arrival) -> u32 {
        match arrival.hook {
            Hook::Lan | Hook::Mark => self.lan,
            Hook::LanL3 | Hook::MarkL3 => self.bare,
            Hook::Egress | Hook::Tunnel | Hook::Return => self.tunnels[usize::from(arrival.device)],
        }
    }
}

/// Puts this thread into a new namespace and makes the devices there.
///
/// They are TAP and TUN devices that nobody reads: the program asks a device for its number and its
/// MTU, and the kernel for routes and neighbours, nothing more. The device for a VLAN is none, which
/// the program cannot tell and not every kernel has.
pub fn enter() -> Result<Devices> {
    unshare(CloneFlags::CLONE_NEWNET).context("new network namespace")?;
    let mac = colons(LAN_MAC);
    for name in ["lan0", "lan0.10", "wan0"] {
        ip(&["tuntap", "add", name, "mode", "tap"])?;
        ip(&["link", "set", name, "address", &mac, "up"])?;
    }
    ip(&["tuntap", "add", "lan1", "mode", "tun"])?;
    ip(&["link", "set", "lan1", "up"])?;
    let mut tunnels = [0; DEVICES.len()];
    for ((id, name), number) in (0..).zip(DEVICES).zip(&mut tunnels) {
        let mtu = if id == SMALL { SMALL_MTU } else { MTU }.to_string();
        ip(&["tuntap", "add", name, "mode", "tun"])?;
        ip(&["link", "set", name, "mtu", &mtu, "up"])?;
        *number = ifindex(name)?;
        // What comes out of a tunnel may be forwarded; what comes from the LAN is not, so that
        // whatever leaves by a tunnel is the program's doing.
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/conf/{name}/forwarding");
            fs::write(&path, "1").context(path)?;
        }
    }
    routes()?;
    Ok(Devices {
        lan: ifindex("lan0")?,
        vlan: ifindex("lan0.10")?,
        bare: ifindex("lan1")?,
        tunnels,
    })
}

/// The kernel's side of [`way`](crate::packets::world::way).
fn routes() -> Result<()> {
    for addr in [
        "10.1.0.1/16 broadcast + dev lan0",
        "10.10.0.1/16 broadcast + dev lan0.10",
        "10.2.8.0/32 dev t0",
        "10.2.8.1/32 dev t1",
        "fd00:1::1/128 nodad dev lan0",
        "fd00:10::1/128 nodad dev lan0.10",
        "fd00:2::8:0/128 nodad dev t0",
        "fd00:2::8:1/128 nodad dev t1",
    ] {
        let words: Vec<&str> = addr.split(' ').collect();
        ip(&[&["addr", "add"], &words[..]].concat())?;
    }
    for (prefix, device) in [
        ("10.2.0.0/16", "t0"),
        ("10.11.0.0/16", "lan1"),
        ("172.16.0.0/12", "wan0"),
        ("fd00:1::/32", "lan0"),
        ("fd00:10::/32", "lan0.10"),
        ("fd00:11::/32", "lan1"),
        ("fd00:2::/32", "t0"),
        ("fd00:172::/32", "wan0"),
    ] {
        ip(&["route", "add", prefix, "dev", device])?;
    }
    let mac = colons(HOST_MAC);
    let neighbour =
        |addr: &str, device| ip(&["neigh", "add", addr, "lladdr", &mac, "dev", device]).map(drop);
    for host in 2..8 {
        neighbour(&format!("10.1.0.{host}"), "lan0")?;
        neighbour(&format!("fd00:1::{host}"), "lan0")?;
    }
    neighbour("10.10.0.2", "lan0.10")?;
    neighbour("fd00:10::2", "lan0.10")
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The number of a device.
pub fn ifindex(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| format!("device {name}"))
}

/// Whether a device is in use since somebody reads it. The kernel notices a moment late
/// (`linkwatch_do_dev` in `net/core/link_watch.c`), and drops what is sent until then.
pub fn is_running(name: &str) -> Result<bool> {
    Ok(ip(&["-o", "link", "show", name])?.contains("state UP"))
}

/// Runs `ip`, which inherits the thread's namespace. What it says.
pub fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("ip (package iproute2)")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), stderr.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
