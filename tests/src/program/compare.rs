//! The host and the kernel side by side: the same packet, the same result.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::time::{ClockId, clock_gettime};
use steer_common::{
    abi::{FlowEntry, FlowKey, GroupId, Tunnel, TunnelId},
    decide::Verdict,
    parse,
};

use super::{
    kernel::Kernel,
    netns::{self, Devices},
};
use crate::packets::{
    host::{self, HostTables},
    recipe::Layer,
    world::{Buckets, World},
};

/// The packet as a test run takes it, if it does.
///
/// The kernel refuses to run what is shorter than a MAC header and one byte, or than the IP header
/// that bytes 12 and 13 announce (`bpf_prog_test_run_skb` in `net/bpf/test_run.c`). A frame of the
/// second kind gets a VLAN tag, which hides the announcement.
pub fn runnable(layer: Layer, bytes: &[u8]) -> Option<Vec<u8>> {
    const MAC_BYTES: usize = 14;
    if bytes.len() <= MAC_BYTES {
        return None;
    }
    let least = match bytes[12..14] {
        [0x08, 0x00] => MAC_BYTES + 20,
        [0x86, 0xdd] => MAC_BYTES + 40,
        _ => 0,
    };
    let mut packet = bytes.to_vec();
    if bytes.len() < least {
        if layer == Layer::Network {
            return None;
        }
        packet.splice(12..12, [0x81, 0x00, 0, 10]);
    }
    Some(packet)
}

/// One world, twice.
pub struct Pair {
    /// The devices of this thread's namespace.
    pub devices: Devices,
    /// The world on the host.
    pub host: HostTables,
    /// The world in the kernel.
    pub kernel: Kernel,
}

impl Pair {
    /// Puts this thread into a namespace and makes the world of the packet table there.
    pub fn new(max_flows: u32) -> Result<Self> {
        let devices = netns::enter()?;
        let world = World::new(devices.tunnels);
        Ok(Self {
            devices,
            host: HostTables::new(&world, max_flows as usize),
            kernel: Kernel::load(&world, devices.lan, max_flows)?,
        })
    }

    /// Sends a packet through both and compares everything that it can have changed.
    ///
    /// A packet from a tunnel comes out of `device`, given by its tunnel.
    pub fn send(&mut self, layer: Layer, bytes: &[u8], device: TunnelId) -> Result<()> {
        self.try_send(layer, bytes, device).with_context(|| {
            let parsed = match layer {
                Layer::Ethernet => host::parsed(parse::Layer::Ethernet, bytes),
                Layer::Network => host::parsed(parse::Layer::Network, bytes),
            };
            format!("{layer:?} packet {}\nparsed: {parsed:?}", hex(bytes))
        })
    }

    fn try_send(&mut self, layer: Layer, bytes: &[u8], device: TunnelId) -> Result<()> {
        self.host.now_ns = now_ns()?;
        let key = match layer {
            Layer::Ethernet => {
                let ran = self.kernel.ingress(&self.devices, bytes)?;
                let host = host::ingress(&self.host, bytes);
                let redirected = matches!(host.verdict, Verdict::Redirect(_));
                ensure!(
                    ran.redirected == redirected,
                    "the kernel {}, the host says {:?}",
                    if ran.redirected {
                        "redirected"
                    } else {
                        "passed"
                    },
                    host.verdict
                );
                same("bytes", &hex(&ran.bytes), &hex(&host.bytes))?;
                host.parsed.map(|parsed| parsed.key)
            }
            Layer::Network => {
                let ifindex = self.devices.tunnels[usize::from(device)];
                let ran = self.kernel.learn(ifindex, bytes)?;
                ensure!(!ran.redirected, "a packet from a tunnel was redirected");
                same("bytes", &hex(&ran.bytes), &hex(bytes))?;
                host::learned(&self.host, bytes, device);
                host::parsed(parse::Layer::Network, bytes)
                    .ok()
                    .map(|parsed| parsed.key)
            }
        };
        self.compare(key.as_ref())
    }

    /// Compares the counters and a flow's entry.
    pub fn compare(&self, key: Option<&FlowKey>) -> Result<()> {
        same(
            "pass counters",
            &self.kernel.pass_counters()?,
            &self.host.pass_counters(),
        )?;
        for id in 0..6 {
            same(
                &format!("counters of tunnel {id}"),
                &self.kernel.tunnel_counters(id)?,
                &self.host.tunnel_counters(id),
            )?;
        }
        let Some(key) = key else {
            return Ok(());
        };
        let (kernel, host) = (self.kernel.flow(key)?, self.host.entry(key));
        let timeless = |entry: Option<FlowEntry>| {
            entry.map(|entry| FlowEntry {
                created_ns: 0,
                last_seen_ns: 0,
                ..entry
            })
        };
        same("entry", &timeless(kernel), &timeless(host))?;
        if let (Some(kernel), Some(host)) = (kernel, host) {
            // The clocks are read a moment apart, and the coarse one lags by a tick.
            const MOMENT_NS: u64 = 2_000_000_000;
            for (name, kernel, host) in [
                ("created", kernel.created_ns, host.created_ns),
                ("last seen", kernel.last_seen_ns, host.last_seen_ns),
            ] {
                ensure!(
                    kernel.abs_diff(host) < MOMENT_NS,
                    "{name}: {kernel} ns in the kernel, {host} ns on the host"
                );
            }
        }
        Ok(())
    }

    /// Changes a tunnel in both.
    pub fn set_tunnel(&mut self, id: TunnelId, tunnel: Tunnel) -> Result<()> {
        self.host.tunnels[usize::from(id)] = Some(tunnel);
        self.kernel.set_tunnel(id, tunnel)
    }

    /// Replaces a bucket table in both.
    pub fn set_table(&mut self, group: GroupId, table: Buckets) -> Result<()> {
        self.kernel.set_table(group, &table)?;
        self.host.tables.insert(group, table);
        Ok(())
    }

    /// Tells both that membership changed.
    pub fn bump_epoch(&mut self) -> Result<()> {
        self.host.settings.epoch += 1;
        self.kernel.set_settings(&self.host.settings)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, kernel: &T, host: &T) -> Result<()> {
    if kernel == host {
        return Ok(());
    }
    Err(anyhow!(
        "{what} differ\nkernel: {kernel:?}\nhost:   {host:?}"
    ))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The clock of flow entries.
pub fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let secs = u64::try_from(now.tv_sec())?;
    Ok(secs * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}
