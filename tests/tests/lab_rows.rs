//! Every packet of the packet table, sent through a gateway twice: once with
//! the kernel alone, once with steer. The same bytes must come out of the
//! tunnels, whichever of them, and the same answers must come back.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use steer_tests::lab::{
    Capture, Captured, Family, Lab, Setup, Side, Steer, firewall, tunnel_address,
};
use steer_tests::packets::{
    build::{self, HOST_MAC},
    recipe::{Hook, Recipe},
    row::PacketTable,
    world::LAN_MAC,
};
use steer_tests::program::compare::hex;
use steer_tests::scenario::{self, Way};
use steer_tests::traffic::{Injector, Probe};

steer_tests::ways! {
    from_the_lan: crate::from_the_lan, kernel ingress egress mark;
    from_a_tunnel: crate::from_a_tunnel, kernel ingress egress mark;
}

/// The IPv4 option that does nothing.
const NO_OPERATION: u8 = 1;
/// Those that a router writes into (RFC 791): record route, time-stamp.
const WRITTEN: [u8; 2] = [7, 68];
/// Time for the packet that is sent behind each row's.
const PATIENCE: Duration = Duration::from_secs(5);

/// A row: what arrives, in order, the row's own packet last.
struct Case {
    name: String,
    packets: Vec<Injected>,
}

/// A packet, and the side that it comes from.
struct Injected {
    out: bool,
    bytes: Vec<u8>,
}

/// The rows that are tried at a hook, as far as the devices take their packets.
fn cases(hook: Hook) -> Result<Vec<Case>> {
    let injected = |recipe: &Recipe| Injected {
        out: recipe.hook().is_out(),
        bytes: build::packet(recipe),
    };
    // And sockets send nothing shorter than a MAC header, or nothing.
    let fits = |packet: &Injected| {
        let lengths = if packet.out { 14..=1514 } else { 1..=1420 };
        lengths.contains(&packet.bytes.len())
    };
    let table = PacketTable::read()?;
    let of_hook = table.cases().filter(|case| case.hook == hook);
    let cases = of_hook.map(|case| Case {
        name: case.name(),
        packets: case.runs()[0].iter().map(injected).collect(),
    });
    Ok(cases.filter(|case| case.packets.iter().all(fits)).collect())
}

/// What came out of gateway A because of each packet of a case, sorted.
type Outcome = Vec<Vec<Vec<u8>>>;

/// Sends packets through gateway A one by one, and sees what comes out on both sides.
struct Bench<'a> {
    lab: &'a Lab,
    client: Injector,
    far: Injector,
    at_client: Capture,
    at_tunnels: Capture,
    /// Packets that the far end of the tunnel did not send.
    refused: Cell<usize>,
}

impl<'a> Bench<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        Ok(Self {
            lab,
            client: Injector::frames(lab.client(), "lan0")?,
            far: Injector::packets(lab.gateway(Side::B), "wg0", &[])?,
            at_client: Capture::start(lab.client(), &["lan0"])?,
            at_tunnels: Capture::tunnels(lab, Side::A)?,
            refused: Cell::default(),
        })
    }

    /// What came out because of each case, in the cases' order.
    fn run(&self, cases: &[Case]) -> Result<Vec<Outcome>> {
        // The lab may be cold.
        self.outcome(true, None)?;
        self.outcome(false, None)?;
        let of_case = |case: &Case| {
            let packets = case.packets.iter();
            packets
                .map(|packet| self.outcome(packet.out, Some(&packet.bytes)))
                .collect::<Result<_>>()
                .with_context(|| case.name.clone())
        };
        cases.iter().map(of_case).collect()
    }

    /// What comes out because of a packet; another one is sent behind it, with which it has passed.
    fn outcome(&self, out: bool, packet: Option<&[u8]>) -> Result<Vec<Vec<u8>>> {
        let probe = Probe::new(self.lab, Family::V4, 9);
        let header = [&LAN_MAC[..], &HOST_MAC, &[0x08, 0x00]].concat();
        // What gateway A sends: it goes out by a tunnel, or the client receives it.
        let (injector, probe, marker, last, other) = if out {
            let marker = [header, probe.bytes()].concat();
            let (last, other) = (&self.at_tunnels, &self.at_client);
            (&self.client, probe, marker, last, other)
        } else {
            let probe = probe.reversed();
            let (last, other) = (&self.at_client, &self.at_tunnels);
            (&self.far, probe, probe.bytes(), last, other)
        };
        if let Some(packet) = packet {
            match injector.send(packet) {
                // Then nothing comes out, whoever steers.
                Err(error) if !out && is_no_traffic(&error) => {
                    self.refused.set(self.refused.get() + 1);
                }
                sent => sent?,
            }
        }
        // What comes through WireGuard in the kernel may be held back while the next one passes, until its
        // queue is empty (generic receive offload): by the second marker, it was.
        let markers = if out { 1 } else { 2 };
        let mut seen = Vec::new();
        for _ in 0..markers {
            injector.send(&marker)?;
            let packets = last.until("the packet behind", PATIENCE, |packets| {
                // Nothing comes behind it: what is noted behind it was seen by another device.
                let mut sent = packets.iter().filter(|packet| packet.outgoing == out);
                sent.any(|packet| probe.is(packet))
                    .then(|| packets.to_vec())
            })?;
            seen.extend(packets.into_iter().filter(|packet| packet.outgoing == out));
        }
        let more = other.take()?.into_iter();
        seen.extend(more.filter(|packet| packet.outgoing != out));
        let mut outcome: Vec<_> = seen
            .iter()
            .filter(|packet| !probe.is(packet) && is_outcome(packet))
            .map(comparable)
            .collect();
        outcome.sort();
        Ok(outcome)
    }
}

/// Whether WireGuard, which is in the kernel then, would not send a packet: it is none, or to no peer
/// (`wg_xmit`). A TUN device takes it, and its process drops it.
fn is_no_traffic(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(Errno::ENOKEY | Errno::EPROTONOSUPPORT)
    )
}

/// Whether the gateway sent it because of another packet, not for itself and not seconds later.
fn is_outcome(captured: &Captured) -> bool {
    let Some(packet) = captured.packet() else {
        return false;
    };
    let [kind, code] = *packet.payload.first_chunk().unwrap_or(&[0, 0]);
    match (packet.protocol, kind, code) {
        // Multicast listeners, routers and neighbours; and redirects, which the kernel limits.
        (2, _, _) | (58, 130..=137 | 143, _) => false,
        // Nobody has told the MAC address of a host, and it is time to say so.
        (1, 3, 1) | (58, 1, 3) => !is_own(packet.src),
        _ => true,
    }
}

/// Whether an address is gateway A's.
fn is_own(address: IpAddr) -> bool {
    [Family::V4, Family::V6].into_iter().any(|family| {
        let tunnels = [0, 1].map(|k| tunnel_address(Side::A, k, family));
        tunnels.contains(&address) || address == Side::A.gateway(family)
    })
}

/// The packet without what is the gateway's own: the identification of packets that it makes, and
/// what it writes into an option, the time of day or the address of the tunnel.
fn comparable(captured: &Captured) -> Vec<u8> {
    let mut bytes = captured.bytes.clone();
    let Some(packet) = captured.packet().filter(|packet| packet.src.is_ipv4()) else {
        return bytes;
    };
    if is_own(packet.src) {
        bytes[4..6].fill(0);
        bytes[10..12].fill(0);
    }
    let options = &bytes[20..usize::from(bytes[0] & 0xf) * 4];
    if let Some(at) = options.iter().position(|option| *option != NO_OPERATION)
        && WRITTEN.contains(&options[at])
    {
        // Behind its kind, length and pointer.
        bytes[20 + at + 3..][..5].fill(0);
        bytes[10..12].fill(0);
    }
    bytes
}

/// Silent ends: whatever is seen comes from gateway A.
fn prepare(lab: &Lab) -> Result<()> {
    let mac = LAN_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let gateway = lab.gateway(Side::A);
    gateway.ip(&["link", "set", "lan0", "address", &mac])?;
    for family in ["-4", "-6"] {
        // The kernel limits how often it says that there is no route.
        gateway.ip(&[family, "route", "add", "blackhole", "default"])?;
    }
    firewall::silence(lab.client(), "lan0")?;
    // The gateway is not silent where steer goes past its netfilter.
    firewall::silence(lab.server(), "lan0")?;
    firewall::silence(lab.gateway(Side::B), "wg*")
}

/// Compares what the kernel alone did with what it did on this way.
fn compare(way: Way, hook: Hook) -> Result<()> {
    let cases = cases(hook)?;
    let lab = scenario::lab(2)?;
    prepare(&lab)?;
    pin()?;
    let wanted = Bench::new(&lab)?.run(&cases)?;
    // On gateway A only: what the far one sends must stay in order, on one tunnel.
    let start = |hook| {
        // Probes are packets, too.
        let setup = Setup::new(&[1, 1]).args(&["--hook", hook, "--no-probe"]);
        Steer::start_as(&lab, Side::A, &setup)
    };
    let _steer = way.hook().map(start).transpose()?;
    let bench = Bench::new(&lab)?;
    let got = bench.run(&cases)?;
    let wrong: Vec<_> = cases
        .iter()
        .zip(wanted.iter().zip(&got))
        .filter(|(_, (wanted, got))| wanted != got)
        .map(|(case, (wanted, got))| difference(case, wanted, got))
        .collect();
    let packets: usize = wanted.iter().map(Vec::len).sum();
    let answered = wanted.iter().filter(|outcome| has_answer(outcome)).count();
    println!(
        "{} rows, {packets} packets, {answered} rows with an outcome, {} packets not sent",
        cases.len(),
        bench.refused.get()
    );
    assert!(answered > cases.len() / 4, "the lab lets nothing through");
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

fn has_answer(outcome: &Outcome) -> bool {
    outcome.last().is_some_and(|packets| !packets.is_empty())
}

/// The packets of a case that came out otherwise.
fn difference(case: &Case, wanted: &Outcome, got: &Outcome) -> String {
    let shown = |packets: &[Vec<u8>]| {
        let lines = packets
            .iter()
            .map(|packet| format!("\n      {}", hex(packet)));
        lines.collect::<String>()
    };
    let sides = case.packets.iter().zip(wanted).zip(got);
    let differing =
        sides
            .filter(|((_, wanted), got)| wanted != got)
            .map(|((packet, wanted), got)| {
                let (sent, wanted, got) = (hex(&packet.bytes), shown(wanted), shown(got));
                format!("\n  {sent}\n  the kernel:{wanted}\n  with steer:{got}")
            });
    case.name.clone() + &differing.collect::<String>()
}

/// Keeps this thread on the processor that it is on, whose queue then keeps the order of what it sends.
fn pin() -> Result<()> {
    let mut one = CpuSet::new();
    one.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("sched_setaffinity")
}

fn from_the_lan(way: Way) -> Result<()> {
    compare(way, Hook::Lan)
}

fn from_a_tunnel(way: Way) -> Result<()> {
    compare(way, Hook::Return)
}
