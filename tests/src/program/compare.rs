//! The host and the kernel side by side: the same packet, the same result.

use std::{collections::HashMap, fmt::Write as _, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use steer_common::abi::{
    FlowEntry, FlowKey, Fragment, GroupId, PassReason, Settings, Tunnel, TunnelId,
};

use super::{
    kernel::Kernel,
    netns::{self, Devices},
};
use crate::packets::{
    build::Arrival,
    host::HostTables,
    programs::{Ran, arrive},
    recipe::{Hook, Layer},
    world::{Buckets, DEVICES, World},
};

/// The packet as a test run takes it, if it does.
///
/// The kernel refuses to run what is shorter than a MAC header and one byte, or than the IP header
/// that bytes 12 and 13 announce (`bpf_prog_test_run_skb` in `net/bpf/test_run.c`). A frame of the
/// second kind gets a VLAN tag, which hides the announcement. And it does not make merged packets
/// whose segments could be measured, so those are only for programs that do not do it.
pub fn runnable(mut arrival: Arrival) -> Option<Arrival> {
    const MAC_BYTES: usize = 14;
    let bytes = &arrival.bytes;
    let measures = matches!(arrival.hook, Hook::Lan | Hook::LanL3 | Hook::Egress);
    if bytes.len() <= MAC_BYTES || (arrival.gso_size > 0 && measures) {
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

/// Longer than a tick of any kernel, of which there are 100 in a second or more.
pub const TICK: Duration = Duration::from_millis(20);

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
    ///
    /// The thread stays on its CPU: the programs have a clock on each.
    pub fn new(max_flows: u32) -> Result<Self> {
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu()?)?;
        sched_setaffinity(Pid::from_raw(0), &cpus)?;
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
        for &(addr, length, group) in &world.prefixes {
            self.kernel.set_prefix(addr, length, group)?;
        }
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

    /// Lets a packet arrive in both and compares everything that it can have changed.
    pub fn send(&mut self, arrival: &Arrival) -> Result<Ran> {
        let ran = self.run(arrival)?;
        self.compare_counters()
            .and_then(|()| match &ran.parsed {
                Ok(parsed) => self.compare_flow(&parsed.key),
                Err(_) => Ok(()),
            })
            .with_context(|| describe(arrival, &ran))?;
        Ok(ran)
    }

    /// Lets a packet arrive in both and compares what becomes of it. Nothing but that is looked at,
    /// which makes it fast.
    pub fn run(&mut self, arrival: &Arrival) -> Result<Ran> {
        let kernel = self.kernel.arrive(&self.devices, arrival)?;
        self.catch_up()?;
        let host = arrive(&self.host, arrival);
        same_packet(&kernel, &host).with_context(|| describe(arrival, &host))?;
        Ok(host)
    }

    /// Puts the host's clock where the kernel's is.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        self.host.now_ns = self.kernel.clock_ns()? + self.ahead_ns;
        Ok(())
    }

    /// Compares everything that packets can have changed.
    pub fn compare(&self) -> Result<()> {
        self.compare_counters()?;
        let mut in_kernel = self.kernel.flow_keys()?;
        let mut on_host = self.host.flow_keys();
        in_kernel.sort_by_cached_key(name);
        on_host.sort_by_cached_key(name);
        if in_kernel != on_host {
            let (kernel, host) = (
                in_kernel.iter().find(|key| !on_host.contains(key)),
                on_host.iter().find(|key| !in_kernel.contains(key)),
            );
            same("flows", &kernel, &host)?;
        }
        for key in &on_host {
            self.compare_flow(key)?;
        }
        self.compare_moves()?;
        self.compare_fragments()
    }

    /// Compares all counters.
    pub fn compare_counters(&self) -> Result<()> {
        let (kernel, host) = (self.kernel.pass_counters()?, self.host.pass_counters());
        for reason in PassReason::ALL {
            let at = reason as usize;
            same(reason.name(), &kernel[at], &host[at])?;
        }
        let (kernel, host) = (self.kernel.counters()?, self.host.counters());
        same("other counters", &kernel, &host)?;
        for id in 0..=DEVICES.len() {
            let id = u8::try_from(id)?;
            same(
                &format!("counters of tunnel {id}"),
                &self.kernel.tunnel_counters(id)?,
                &self.host.tunnel_counters(id),
            )?;
        }
        Ok(())
    }

    /// Compares a flow's entry.
    pub fn compare_flow(&self, key: &FlowKey) -> Result<()> {
        let (kernel, host) = (self.kernel.flow(key)?, self.host.entry(key));
        let timeless = |entry: Option<FlowEntry>| {
            entry.map(|entry| FlowEntry {
                created_ns: 0,
                last_seen_ns: 0,
                ..entry
            })
        };
        let flow = || format!("{key:?}");
        same("entries", &timeless(kernel), &timeless(host)).with_context(flow)?;
        if let (Some(kernel), Some(host)) = (kernel, host) {
            self.same_time("created", kernel.created_ns, host.created_ns)
                .and_then(|()| self.same_time("last seen", kernel.last_seen_ns, host.last_seen_ns))
                .with_context(flow)?;
        }
        Ok(())
    }

    fn compare_fragments(&self) -> Result<()> {
        let kernel: HashMap<_, _> = self.kernel.fragments()?.into_iter().collect();
        let host = self.host.fragments();
        same("numbers of fragments", &kernel.len(), &host.len())?;
        for (key, host) in &host {
            let timeless = |fragment: &Fragment| Fragment {
                seen_ns: 0,
                ..*fragment
            };
            let of_key = || format!("{key:?}");
            let kernel = kernel.get(key);
            same("fragments", &kernel.map(timeless), &Some(timeless(host)))
                .and_then(|()| {
                    let kernel_ns = kernel.map_or(0, |fragment| fragment.seen_ns);
                    self.same_time("seen", kernel_ns, host.seen_ns)
                })
                .with_context(of_key)?;
        }
        Ok(())
    }

    /// Compares times; after a wait there are none to compare, because only the kernel's went back.
    pub(super) fn same_time(&self, what: &str, kernel_ns: u64, host_ns: u64) -> Result<()> {
        // One may end while a program runs.
        let tick_ns = u64::try_from(TICK.as_nanos())?;
        ensure!(
            self.ahead_ns > 0 || kernel_ns.abs_diff(host_ns) < tick_ns,
            "{what}: {kernel_ns} ns in the kernel, {host_ns} ns on the host"
        );
        Ok(())
    }

    /// Changes a tunnel in both.
    pub fn set_tunnel(&mut self, id: TunnelId, tunnel: Tunnel) -> Result<()> {
        self.host.tunnels[usize::from(id)] = Some(tunnel);
        self.kernel.set_tunnel(id, tunnel)
    }

    /// Gives a prefix of the world to another group in both; `at` is its place there.
    pub fn set_prefix(&mut self, at: usize, group: GroupId) -> Result<()> {
        let (addr, length, of) = &mut self.host.prefixes[at];
        *of = group;
        self.kernel.set_prefix(*addr, *length, group)
    }

    /// Changes the MTU of a tunnel's device.
    pub fn set_mtu(&mut self, id: TunnelId, mtu_bytes: u32) -> Result<()> {
        let at = usize::from(id);
        let mtu = mtu_bytes.to_string();
        netns::ip(&["link", "set", DEVICES[at], "mtu", &mtu])?;
        self.host
            .devices
            .insert(self.devices.tunnels[at], mtu_bytes);
        // The programs may use an answer for a tick.
        thread::sleep(TICK);
        Ok(())
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

    /// Puts a flow's last packet at another time in both, if the flow has an entry.
    pub fn set_last_seen(&mut self, key: &FlowKey, last_seen_ns: u64) -> Result<()> {
        self.host.set_last_seen(key, last_seen_ns);
        let Some(entry) = self.kernel.flow(key)? else {
            return Ok(());
        };
        let entry = FlowEntry {
            last_seen_ns,
            ..entry
        };
        self.kernel.set_flow(key, &entry)
    }

    /// Puts every fragment at another time in both.
    pub fn set_fragments_seen(&mut self, seen_ns: u64) -> Result<()> {
        self.host.set_fragments_seen(seen_ns);
        for (key, fragment) in self.kernel.fragments()? {
            let fragment = Fragment {
                seen_ns,
                ..fragment
            };
            self.kernel.set_fragment(&key, &fragment)?;
        }
        Ok(())
    }

    /// Forgets every flow in both.
    pub fn delete_flows(&mut self) -> Result<()> {
        self.host.delete_flows();
        self.kernel.delete_flows()
    }
}

/// Compares what became of a packet.
fn same_packet(kernel: &super::kernel::Ran, host: &Ran) -> Result<()> {
    let did = |redirected| {
        if redirected {
            "redirected"
        } else {
            "let go on"
        }
    };
    same(
        "what was done",
        &did(kernel.redirected),
        &did(host.redirected),
    )?;
    if kernel.bytes != host.bytes {
        same("bytes", &hex(&kernel.bytes), &hex(&host.bytes))?;
    }
    same("marks", &kernel.mark, &host.mark)?;
    same("markers", &kernel.marker, &host.marker)
}

fn describe(arrival: &Arrival, ran: &Ran) -> String {
    let Arrival {
        hook,
        device,
        gso_size,
        segments,
        mark,
        marker,
        bytes,
    } = arrival;
    format!(
        "packet on {hook:?}, tunnel {device}: {}\n\
         {segments} segments of {gso_size}, mark {mark:#x}, marker {marker:#x}\n\
         on the host: {:?}, {:?}",
        hex(bytes),
        ran.seen,
        ran.parsed
    )
}

/// What keys are sorted by.
fn name(key: &FlowKey) -> Vec<u8> {
    bytemuck::bytes_of(key).to_vec()
}

pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, kernel: &T, host: &T) -> Result<()> {
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
