//! Every packet of the packet table, sent through a gateway twice: once with
//! the kernel alone, once with steer. The same bytes must come out of the
//! tunnels, whichever of them, and the same answers must come back.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use steer_tests::lab::{Capture, Captured, Family, Lab, Packet, Side, firewall, tunnel_address};
use steer_tests::packets::{
    build,
    row::{self, Layer},
    world::LAN_MAC,
};
use steer_tests::program::compare::hex;
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::{Injector, Probe};

steer_tests::ways! {
    from_the_lan: crate::from_the_lan, kernel ingress egress mark;
    from_a_tunnel: crate::from_a_tunnel, kernel ingress egress mark;
}

/// Time for the packet that is sent behind each row's.
const PATIENCE: Duration = Duration::from_secs(5);

/// A row's packet, and where it goes.
struct Case {
    name: String,
    bytes: Vec<u8>,
}

/// The rows of a layer that a device with this MTU takes.
fn cases(layer: Layer, mtu: usize) -> Result<Vec<Case>> {
    let of = |row: row::Row| Case {
        bytes: build::packet(&row),
        name: row.name,
    };
    let rows = row::all()?.into_iter();
    let fits = |case: &Case| case.bytes.len() <= mtu;
    Ok(rows
        .filter(|row| row.layer == layer)
        .map(of)
        .filter(fits)
        .collect())
}

/// Sends packets through gateway A one by one, and sees what comes out on both sides.
struct Bench<'a> {
    injector: Injector,
    /// A whole packet for the injector, with which a row's has passed, too.
    marker: Box<dyn Fn() -> (Probe, Vec<u8>) + 'a>,
    client: Capture,
    tunnels: Capture,
    /// The marker is seen by this end.
    by_client: bool,
}

impl Bench<'_> {
    /// What came out because of each case, in the cases' order.
    fn run(&self, cases: &[Case]) -> Result<Vec<Vec<Vec<u8>>>> {
        // The lab may be cold.
        self.outcome(&[])?;
        let outcome = |case: &Case| self.outcome(&case.bytes).with_context(|| case.name.clone());
        cases.iter().map(outcome).collect()
    }

    fn outcome(&self, packet: &[u8]) -> Result<Vec<Vec<u8>>> {
        if !packet.is_empty() {
            self.injector.send(packet)?;
        }
        let (probe, marker) = (self.marker)();
        self.injector.send(&marker)?;
        let mut seen = Vec::new();
        // What gateway A sends: the client receives it, or it goes out by a tunnel.
        let (last, other, outgoing) = if self.by_client {
            (&self.client, &self.tunnels, false)
        } else {
            (&self.tunnels, &self.client, true)
        };
        last.until("the packet behind", PATIENCE, |packets| {
            let sent = packets.iter().filter(|packet| packet.outgoing == outgoing);
            seen = sent.cloned().collect();
            // Nothing comes behind it: what is noted behind it was seen by another device.
            seen.iter().any(|packet| probe.is(packet)).then_some(())
        })?;
        let more = other.take()?.into_iter();
        seen.extend(more.filter(|packet| packet.outgoing != outgoing));
        let mut outcome: Vec<_> = seen
            .iter()
            .filter(|packet| !probe.is(packet) && is_outcome(packet))
            .map(comparable)
            .collect();
        outcome.sort();
        Ok(outcome)
    }
}

/// Whether the gateway sent it because of another packet, not for itself.
fn is_outcome(captured: &Captured) -> bool {
    let of_the_link = |packet: &Packet<'_>| {
        let kind = packet.payload.first().copied().unwrap_or(0);
        // Multicast listeners, routers and neighbours; and redirects, which the kernel limits.
        packet.protocol == 2 || packet.protocol == 58 && matches!(kind, 130..=137 | 143)
    };
    captured
        .packet()
        .is_some_and(|packet| !of_the_link(&packet))
}

/// The packet without what the gateway numbers as it likes: the identification of its own packets.
fn comparable(captured: &Captured) -> Vec<u8> {
    let mut bytes = captured.bytes.clone();
    let own = [0, 1].map(|k| tunnel_address(Side::A, k, Family::V4));
    let is_own = captured.packet().is_some_and(|packet| {
        own.contains(&packet.src) || packet.src == Side::A.gateway(Family::V4)
    });
    if is_own && bytes[0] >> 4 == 4 {
        bytes[4..6].fill(0);
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
fn compare(
    way: Way,
    scene: &mut Scene,
    cases: &[Case],
    run: impl Fn(&Lab) -> Result<Vec<Vec<Vec<u8>>>>,
) -> Result<()> {
    pin()?;
    let wanted = run(&scene.lab)?;
    scene.steer(way, |_, setup| setup)?;
    let got = run(&scene.lab)?;
    let shown = |packets: &[Vec<u8>]| {
        let lines: Vec<_> = packets.iter().map(|packet| hex(packet)).collect();
        lines.join("\n      ")
    };
    let wrong: Vec<_> = cases
        .iter()
        .zip(wanted.iter().zip(&got))
        .filter(|(_, (wanted, got))| wanted != got)
        .map(|(case, (wanted, got))| {
            format!(
                "{}: {}\n  the kernel:\n      {}\n  with steer:\n      {}",
                case.name,
                hex(&case.bytes),
                shown(wanted),
                shown(got)
            )
        })
        .collect();
    let answered = wanted.iter().filter(|packets| !packets.is_empty()).count();
    println!(
        "{} packets, {answered} of them with an outcome",
        cases.len()
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

/// Keeps this thread on one processor, whose queue then keeps the order of what it sends.
fn pin() -> Result<()> {
    let mut one = CpuSet::new();
    one.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("sched_setaffinity")
}

fn from_the_lan(way: Way) -> Result<()> {
    let cases = cases(Layer::Ethernet, 1514)?;
    let mut scene = Scene::unsteered(2)?;
    prepare(&scene.lab)?;
    compare(way, &mut scene, &cases, |lab| {
        let header = [&LAN_MAC[..], &[2, 0, 0, 0, 0, 2], &[0x08, 0x00]].concat();
        let bench = Bench {
            injector: Injector::frames(lab.client(), "lan0")?,
            marker: Box::new(move || {
                let probe = Probe::new(lab, Family::V4, 9);
                (probe, [header.clone(), probe.bytes()].concat())
            }),
            client: Capture::start(lab.client(), &["lan0"])?,
            tunnels: Capture::tunnels(lab, Side::A)?,
            by_client: false,
        };
        bench.run(&cases)
    })
}

fn from_a_tunnel(way: Way) -> Result<()> {
    let cases = cases(Layer::Network, 1420)?;
    let mut scene = Scene::unsteered(2)?;
    prepare(&scene.lab)?;
    compare(way, &mut scene, &cases, |lab| {
        let bench = Bench {
            injector: Injector::packets(lab.gateway(Side::B), "wg0", &[])?,
            marker: Box::new(move || {
                let probe = Probe::new(lab, Family::V4, 9).reversed();
                (probe, probe.bytes())
            }),
            client: Capture::start(lab.client(), &["lan0"])?,
            tunnels: Capture::tunnels(lab, Side::A)?,
            by_client: true,
        };
        bench.run(&cases)
    })
}
