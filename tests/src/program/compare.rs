//! The host and the kernel side by side: the same packet, the same result.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::time::{ClockId, clock_gettime};
use steer_common::abi::{FlowEntry, FlowKey, GroupId, Settings, Tunnel, TunnelId};

use super::{
    kernel::Kernel,
    netns::{self, Devices},
};
use crate::packets::{
    build::Arrival,
    host::HostTables,
    programs::{Seen, arrive},
    recipe::{Hook, Layer},
    world::{Buckets, World},
};

/// The packet as a test run takes it, if it does.
///
/// The kernel refuses to run what is shorter than a MAC header and one byte, or than the IP header
/// that bytes 12 and 13 announce (`bpf_prog_test_run_skb` in `net/bpf/test_run.c`). A frame of the
/// second kind gets a VLAN tag, which hides the announcement. And it does not make merged packets
/// whose segments could be measured.
pub fn runnable(mut arrival: Arrival) -> Option<Arrival> {
    const MAC_BYTES: usize = 14;
    let bytes = &arrival.bytes;
    if bytes.len() <= MAC_BYTES || arrival.gso_size > 0 {
        return None;
    }
    let least = match bytes[12..14] {
        [0x08, 0x00] => MAC_BYTES + 20,
        [0x86, 0xdd] => MAC_BYTES + 40,
        _ => 0,
    };
    if bytes.len() < least {
        if arrival.hook.layer() == Layer::Network {
            return None;
        }
        arrival.bytes.splice(12..12, [0x81, 0x00, 0, 10]);
    }
    Some(arrival)
}

/// One world, twice.
pub struct Pair {
    /// The devices of this thread's namespace.
    pub devices: Devices,
    /// The world on the host.
    pub host: HostTables,
    /// The world in the kernel.
    pub kernel: Kernel,
    max_flows: u32,
    /// How far the host's clock is ahead.
    ahead_ns: u64,
}

impl Pair {
    /// Puts this thread into a namespace and makes the world of the packet table there.
    pub fn new(max_flows: u32) -> Result<Self> {
        let devices = netns::enter()?;
        let world = World::new(devices.tunnels);
        Ok(Self {
            devices,
            host: HostTables::new(&world, max_flows as usize),
            kernel: Kernel::load(&world, &devices, max_flows)?,
            max_flows,
            ahead_ns: 0,
        })
    }

    /// Makes both worlds new, but for the bucket tables, with these settings changed.
    pub fn restart(&mut self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let mut world = World::new(self.devices.tunnels);
        change(&mut world.settings);
        self.host = HostTables::new(&world, self.max_flows as usize);
        self.ahead_ns = 0;
        self.kernel.forget()?;
        for &(id, tunnel) in &world.tunnels {
            self.kernel.set_tunnel(id, tunnel)?;
        }
        self.kernel.set_settings(&world.settings)
    }

    /// Lets time pass in both; whether that was possible.
    pub fn wait(&mut self, secs: u64) -> Result<bool> {
        let ns = secs * 1_000_000_000;
        self.ahead_ns += ns;
        self.kernel.age(ns)
    }

    /// Sends a packet through both and compares everything that it can have changed.
    pub fn send(&mut self, arrival: &Arrival) -> Result<()> {
        self.try_send(arrival).with_context(|| {
            let Arrival { hook, device, .. } = arrival;
            let bytes = hex(&arrival.bytes);
            format!("packet on {hook:?}, tunnel {device}: {bytes}")
        })
    }

    fn try_send(&mut self, arrival: &Arrival) -> Result<()> {
        self.host.now_ns = now_ns()? + self.ahead_ns;
        let kernel = self.kernel.arrive(&self.devices, arrival)?;
        let host = arrive(&self.host, arrival);
        let redirected = match (arrival.hook, host.seen) {
            (Hook::Mark | Hook::MarkL3, _) | (_, Seen::Passed(_) | Seen::Left) => false,
            (Hook::Egress, Seen::Sent(exit)) => exit.ifindex != self.devices.of(arrival),
            (_, Seen::Sent(_) | Seen::Forwarded(_)) => true,
        };
        let did = |redirected| {
            if redirected {
                "redirected"
            } else {
                "let go on"
            }
        };
        same("what was done", &did(kernel.redirected), &did(redirected))
            .with_context(|| format!("on the host: {:?}", host.seen))?;
        same("bytes", &hex(&kernel.bytes), &hex(&host.bytes))?;
        same("marks", &kernel.mark, &host.mark)?;
        self.compare(host.parsed.ok().map(|parsed| parsed.key).as_ref())
    }

    /// Compares the counters and a flow's entry.
    pub fn compare(&self, key: Option<&FlowKey>) -> Result<()> {
        same(
            "pass counters",
            &self.kernel.pass_counters()?,
            &self.host.pass_counters(),
        )?;
        same(
            "other counters",
            &self.kernel.counters()?,
            &self.host.counters(),
        )?;
        for id in 0..7 {
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
        if self.ahead_ns == 0
            && let (Some(kernel), Some(host)) = (kernel, host)
        {
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

    /// Changes the settings in both.
    pub fn set_settings(&mut self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        change(&mut self.host.settings);
        self.kernel.set_settings(&self.host.settings)
    }

    /// Tells both that membership changed.
    pub fn bump_epoch(&mut self) -> Result<()> {
        self.set_settings(|settings| settings.epoch += 1)
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
