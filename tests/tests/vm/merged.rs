//! Merged packets (GSO, GRO) through WireGuard in the kernel, by routing and by redirect.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::{
    Capture, Family, Host, Implementation, Lab, Options, Setup, Side, Steer, TUNNEL_MTU, wait,
};
use steer_tests::scenario;
use steer_tests::traffic::{Bulk, End, Server, transfer};

/// More than emulated processors encrypt: shaping is not what is measured.
const RATE_MBIT: u32 = 1_000;
const MEASURED: Duration = Duration::from_secs(4);
/// By how much the share of segments that were sent again may be larger than without steer. On busy
/// emulated processors it is anything up to 0.04, with steer and without.
const MORE_AGAIN: f64 = 0.05;
/// What share of the routed goodput is too little to be chance, on emulated processors that others use
/// too. Merged packets that are cut wrongly, or fragmented, come to a tenth and less.
const LEAST: f64 = 0.2;

/// Segments that a host's TCP sent, and sent again (`/proc/net/snmp`).
#[derive(Clone, Copy, Debug)]
struct Segments {
    sent: u64,
    again: u64,
}

impl Segments {
    fn of(host: &Host) -> Result<Self> {
        let text = host.within(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        Self::parse(&text).context("/proc/net/snmp: no TCP counters")
    }

    /// Two lines begin with `Tcp:`: names, and their numbers.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
        let (names, numbers) = (lines.next()?, lines.next()?);
        let pairs: Vec<_> = names
            .split_whitespace()
            .zip(numbers.split_whitespace())
            .collect();
        let value = |name| pairs.iter().find(|pair| pair.0 == name)?.1.parse().ok();
        Some(Self {
            sent: value("OutSegs")?,
            again: value("RetransSegs")?,
        })
    }
}

/// What one way of forwarding came to.
#[derive(Debug)]
struct Measured {
    goodput_mbit: f64,
    /// Share of segments that were sent again.
    again: f64,
    /// The longest packet that the tunnel's device was given, and that the far one gave.
    longest_bytes: [usize; 2],
}

fn measure(lab: &Lab, server: &Server, family: Family) -> Result<Measured> {
    let mut bulk = Bulk::start(lab, server, family, 2)?;
    // Slow start is over, and a too big packet was answered.
    bulk.goodput(server, Duration::from_secs(2))?;
    let before = Segments::of(lab.client())?;
    let goodput_mbit = bulk.goodput(server, MEASURED)?;
    let after = Segments::of(lab.client())?;
    drop(bulk);
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let again = (after.again - before.again) as f64 / (after.sent - before.sent).max(1) as f64;
    Ok(Measured {
        goodput_mbit,
        again,
        longest_bytes: longest(lab, family)?,
    })
}

/// The longest packets of one connection that goes into gateway A's tunnel, and comes out at B. Its size is
/// bounded: packets of endless flows would come faster than emulated processors capture them.
fn longest(lab: &Lab, family: Family) -> Result<[usize; 2]> {
    let near = Capture::tunnels(lab, Side::A)?;
    let far = Capture::tunnels(lab, Side::B)?;
    let from = End::any_port(lab.client(), Side::A.host(family));
    let to = End::any_port(lab.server(), Side::B.host(family));
    let done = transfer(from, to, 2_000_000, wait::here(Duration::from_secs(10)))?;
    ensure!(done.is_complete(), "{done:?}");
    let longest = |capture: Capture, outgoing| -> Result<usize> {
        let packets = capture.take()?.into_iter();
        let of_way = packets.filter(|packet| packet.outgoing == outgoing);
        Ok(of_way.map(|packet| packet.bytes.len()).max().unwrap_or(0))
    };
    Ok([longest(near, true)?, longest(far, false)?])
}

impl Measured {
    /// Both ends had packets that are longer than the tunnel takes at once.
    fn is_merged(&self) -> bool {
        let is_longer = |longest: &usize| *longest > TUNNEL_MTU as usize;
        self.longest_bytes.iter().all(is_longer)
    }
}

fn merged(family: Family) -> Result<()> {
    let options = Options {
        tunnels: 1,
        rate_mbit: RATE_MBIT,
    };
    let lab = Lab::up("vm-merged", &options)?;
    let server = Server::start(&lab)?;
    let routed = measure(&lab, &server, family)?;
    println!("{family}, {}, routed: {routed:?}", lab.implementation());
    if lab.implementation() == Implementation::Kernel {
        ensure!(routed.is_merged(), "no merged packet, even when routed");
    }
    for hook in ["ingress", "egress", "mark"] {
        let setup = Setup::new(&[1]).args(&["--hook", hook]);
        let mut steers = [Side::A, Side::B]
            .into_iter()
            .map(|side| Steer::start_as(&lab, side, &setup))
            .collect::<Result<Vec<_>>>()?;
        let steered = measure(&lab, &server, family)?;
        println!("{family}, {hook}: {steered:?}");
        for steer in &mut steers {
            steer.stop()?;
        }
        ensure!(
            steered.again <= routed.again + MORE_AGAIN,
            "{hook}: {:.4} of the segments were sent again, {:.4} when routed",
            steered.again,
            routed.again
        );
        ensure!(
            steered.goodput_mbit >= LEAST * routed.goodput_mbit,
            "{hook}: {:.1} Mbit/s, {:.1} when routed",
            steered.goodput_mbit,
            routed.goodput_mbit
        );
        ensure!(
            steered.is_merged() || !routed.is_merged(),
            "{hook}: no merged packet in the tunnel"
        );
    }
    Ok(())
}

#[test]
fn merged_packets_go_whole() -> Result<()> {
    scenario::run("merged_packets_go_whole", || {
        merged(Family::V4)?;
        merged(Family::V6)
    })
}

#[test]
fn tcp_counters_are_read() {
    let text = "Ip: A B\nIp: 1 2\nTcp: RtoMin OutSegs RetransSegs\nTcp: 200 1000 7\n";
    let segments = Segments::parse(text).expect("counters");
    assert_eq!((segments.sent, segments.again), (1_000, 7));
}
