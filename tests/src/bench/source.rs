//! The packets: XDP live frames, which the kernel takes as if the LAN device had received them.
//!
//! `BPF_PROG_TEST_RUN` with live frames runs an XDP program on a page of its own and hands what
//! the program passes to the stack in batches, as a driver's NAPI poll does. All of it, up to the
//! tunnel that takes the packet, happens within the system call on the CPU of its caller, so that
//! the caller's CPU time is what forwarding costs. What comes out of tunnels goes through the CPU's
//! backlog; when that is long the kernel has its own thread work it off, whose time counts, too.

use std::{fs, net::Ipv6Addr, time::Duration};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, TestRunAttrs, TestRunOptions,
    programs::{TestRun as _, Xdp},
};
use etherparse::PacketBuilder;
use nix::{
    net::if_::if_nametoindex,
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use steer_common::bench::{IPV4_PAYLOAD, MAGIC, Order, TTL, lost, programs};

use super::{Scenario, object, scenario::Traffic};
use crate::lab::Host;

/// Frames that go to the stack at once: what a driver's poll takes at most.
const BATCH: u32 = 64;
/// Bytes of payload: the order and a bit of data.
const PAYLOAD_BYTES: usize = 64;
/// The one CPU that forwards.
const CPU: usize = 0;
/// Where the IPv4 header is.
const IPV4: std::ops::Range<usize> = 14..34;

/// What becomes of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Fate {
    /// The gateway forwards them.
    Forwarded = lost::NOWHERE,
    /// The source drops them: what it costs to make them.
    LostAtSource = lost::AT_SOURCE,
    /// They get lost as the kernel has taken them: what a driver costs besides.
    LostOnLan = lost::ON_LAN,
    /// They get lost as they come out of a device like a tunnel: what the way there costs besides.
    LostInTunnel = lost::IN_TUNNEL,
}

/// The source in front of a gateway's `lan0`.
pub(super) struct Source {
    host: Host,
    object: Ebpf,
    ifindex: u32,
    packet: Vec<u8>,
    order: Order,
    /// The kernel's thread for the CPU's backlog.
    backlog: u32,
}

impl Source {
    /// In front of `lan0`, with the flows of the scenario.
    pub(super) fn attach(host: &Host, scenario: &Scenario) -> Result<Self> {
        let mut object = object::load(object::Settings::default())?;
        let program: &mut Xdp = object
            .program_mut(programs::SOURCE)
            .context("no source in the object")?
            .try_into()?;
        program.load().context("the source")?;
        let ifindex = host.within(|| Ok(if_nametoindex("lan0")?))?;
        let (packet, order) = packet(host.mac("lan0")?, scenario)?;
        Ok(Self {
            host: host.clone(),
            object,
            ifindex,
            packet,
            order,
            backlog: thread_of_backlog()?,
        })
    }

    /// Sends packets; the CPU time that they took.
    pub(super) fn send(&self, packets: u32, fate: Fate) -> Result<Duration> {
        let program: &Xdp = self
            .object
            .program(programs::SOURCE)
            .context("no source in the object")?
            .try_into()?;
        let order = Order {
            lost: fate as u32,
            ..self.order
        };
        let mut packet = self.packet.clone();
        let payload = packet.len() - PAYLOAD_BYTES;
        packet[payload..][..size_of::<Order>()].copy_from_slice(bytemuck::bytes_of(&order));
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, u32::try_from(packet.len())?, 0, self.ifindex, 0, 0];
        self.host.within(|| {
            let mut cpus = CpuSet::new();
            cpus.set(CPU)?;
            sched_setaffinity(Pid::from_raw(0), &cpus).context("one CPU")?;
            let before = cpu_time(self.backlog)?;
            program
                .test_run(TestRunOptions {
                    data_in: Some(&packet),
                    ctx_in: Some(bytemuck::cast_slice(&context)),
                    repeat: packets,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                })
                .context("XDP live frames (kernel 5.18)")?;
            Ok(cpu_time(self.backlog)?.saturating_sub(before))
        })
    }
}

/// CPU time of the caller, and of the kernel's thread of this number.
fn cpu_time(thread: u32) -> Result<Duration> {
    let own = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    // Nanoseconds that it ran come first (`Documentation/scheduler/sched-stats.rst`).
    let path = format!("/proc/{thread}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let ran = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    Ok(Duration::from(own) + Duration::from_nanos(ran.with_context(|| path.clone())?))
}

/// Number of the kernel's thread for the backlog of [`CPU`].
fn thread_of_backlog() -> Result<u32> {
    let name = format!("ksoftirqd/{CPU}");
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end meanwhile.
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name) {
            return Ok(number);
        }
    }
    bail!("no thread {name}: the kernel's threads are in another PID namespace")
}

/// A packet that the source program varies, and what it is told but for the verdict.
///
/// UDP without a checksum: a network card would have verified it, here the connection tracker
/// would have to.
fn packet(mac: [u8; 6], scenario: &Scenario) -> Result<(Vec<u8>, Order)> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], mac);
    let learns = scenario.traffic == Traffic::Learned;
    let ip = if scenario.ipv6 {
        let lan = if learns { "fd00:4::" } else { "fd00:1::" };
        let ends = [lan.parse::<Ipv6Addr>()?, "fd00:2::1".parse()?].map(|addr| addr.octets());
        let [src, dst] = in_order(ends, learns);
        ethernet.ipv6(src, dst, TTL)
    } else {
        let lan = if learns { 4 } else { 1 };
        let [src, dst] = in_order([[10, lan, 0, 0], [0; 4]], learns);
        ethernet.ipv4(src, dst, TTL)
    };
    let builder = ip.udp(1, 1);
    let mut packet = Vec::with_capacity(builder.size(PAYLOAD_BYTES));
    builder.write(&mut packet, &[0; PAYLOAD_BYTES])?;
    let udp = packet.len() - PAYLOAD_BYTES - 8;
    packet[udp + 6..udp + 8].fill(0);
    let mut sum = 0;
    if packet.len() == IPV4_PAYLOAD + PAYLOAD_BYTES {
        packet[IPV4.start + 10..IPV4.start + 12].fill(0);
        let words = packet[IPV4].chunks_exact(2);
        sum = words
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
    }
    let order = Order {
        magic: MAGIC,
        lost: lost::NOWHERE,
        flows: scenario.flows,
        prefixes: scenario.prefixes,
        tunnels: if learns { scenario.tunnels } else { 0 },
        sum,
    };
    Ok((packet, order))
}

/// Source and destination, of the address on the LAN and the far one.
fn in_order<T>([near, far]: [T; 2], learns: bool) -> [T; 2] {
    if learns { [far, near] } else { [near, far] }
}
