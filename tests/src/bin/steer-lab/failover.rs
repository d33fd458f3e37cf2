//! `steer-lab failover`: how long it takes to notice that a tunnel is dead, and what flows feel of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::time::{ClockId, clock_gettime};
use steer_tests::lab::{Family, Observer, Side, wait};
use steer_tests::scenario::Fixture;
use steer_tests::scenario::watch::{PATIENCE, busy, gaps, until_answering, until_used};
use steer_tests::traffic::LiveFlows;
use steer_user::datapath::{maps::Maps, pins::PinDir};

use crate::text::{BOLD, DIM};

/// How long the wire is watched to know where flows are.
const WINDOW: Duration = Duration::from_millis(500);
/// The tunnel that is cut; there is one more.
const CUT: usize = 1;
const CUT_NAME: &str = "wg1";

/// Cuts of each kind.
#[derive(Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    /// How often a tunnel is cut in each way.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..))]
    cuts: u8,
}

/// How a tunnel ends.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Silent,
    Carrier,
    Deleted,
    Rebooted,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Silent, Self::Carrier, Self::Deleted, Self::Rebooted];

    fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent drop",
            Self::Carrier => "carrier loss",
            Self::Deleted => "device deleted",
            Self::Rebooted => "far end rebooted",
        }
    }

    fn cut(self, f: &Fixture) -> Result<()> {
        match self {
            Self::Silent => f.lab.cut_tunnel(CUT),
            Self::Carrier => f.lab.plug_cable(Side::B, CUT, false),
            Self::Deleted => f.lab.tunnel_delete(Side::A, CUT),
            Self::Rebooted => f.lab.tunnel_delete(Side::B, CUT),
        }
    }

    fn restore(self, f: &mut Fixture) -> Result<()> {
        match self {
            Self::Silent => f.lab.restore_tunnel(CUT),
            Self::Carrier => f.lab.plug_cable(Side::B, CUT, true),
            Self::Deleted => f.lab.tunnel_remake(Side::A, CUT),
            Self::Rebooted => f.lab.tunnel_remake(Side::B, CUT),
        }
    }
}

/// What one cut did.
#[derive(Debug)]
struct Cut {
    /// Until the tunnel was down for the packet path.
    detected: Duration,
    /// The longest that a flow of the tunnel was without an echo.
    udp: Duration,
    tcp: Duration,
    /// From the tunnel's return until it was used again.
    up: Duration,
    /// Flows that were moved, and those that had to be.
    moved: u64,
    least: u64,
}

/// Cuts, and prints a table.
pub(crate) fn run(args: &FailoverArgs) -> Result<()> {
    let mut f = Fixture::new(&[1, 1])?;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let mut cuts = Vec::new();
        for n in 0..args.cuts {
            let family = if n % 2 == 0 { Family::V4 } else { Family::V6 };
            let cut = once(&mut f, kind, family)?;
            anstream::println!("{DIM}{} {family}: {cut:?}{DIM:#}", kind.name());
            cuts.push(cut);
        }
        rows.push(row(kind, &cuts));
    }
    anstream::println!(
        "\n{BOLD}{} cuts in each way{BOLD:#}, IPv4 and IPv6 in turn, {}; median / worst in ms\n",
        args.cuts,
        f.lab.implementation()
    );
    anstream::println!(
        "| cut | detected | UDP flows back | TCP flows back | tunnel up again | flows moved |\n|---|---|---|---|---|---|"
    );
    for row in rows {
        anstream::println!("{row}");
    }
    Ok(())
}

fn once(f: &mut Fixture, kind: Kind, family: Family) -> Result<Cut> {
    // A new daemon each time: it does not hold earlier cuts against the tunnel.
    f.near.run(&[1, 1])?;
    f.far.run(&[1, 1])?;
    f.observer = Observer::start(&f.lab)?;
    until_answering(&f.near, &["wg0", CUT_NAME])?;
    until_answering(&f.far, &["wg0", CUT_NAME])?;
    let live = LiveFlows::start(&f.lab, busy(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    let (own, others) = before.split(&flows, CUT);
    let moved_before = f.near.status()?.tunnel("wg0")?.moved_in;
    live.forget_gaps();

    let cut_ns = now_ns()?;
    kind.cut(f)?;
    let echoed_before = live.report()?;
    let after = f.until_all_flows_use(0, &flows)?;
    wait::until("echoes of all flows", PATIENCE, || {
        let now = live.report()?;
        let pairs = now.flows.iter().zip(&echoed_before.flows);
        // Two may have been under way.
        let all = pairs
            .into_iter()
            .all(|(now, before)| now.echoed > before.echoed + 2);
        Ok(all.then_some(()))
    })?;
    let (udp, tcp) = gaps(&live.report()?, &own);
    ensure!(
        after.moved_since(&before, &others).is_empty(),
        "flows of wg0 moved"
    );
    let moved = f.near.status()?.tunnel("wg0")?.moved_in - moved_before;
    let down_ns = Maps::open(&PinDir::new(f.lab.pin_dir(Side::A)))?
        .tunnel_health(u8::try_from(CUT)?)?
        .since_ns;

    kind.restore(f)?;
    let up = until_used(&f.near, CUT_NAME)?;
    until_used(&f.far, CUT_NAME)?;
    let back = f.observer.window(&flows, WINDOW)?;
    // A flow that waits for its next try is not seen at all.
    let mut moved_back = back.moved_since(&after, &flows);
    moved_back.retain(|flow| back.paths(flow).is_some());
    ensure!(moved_back.is_empty(), "moved by the return: {moved_back:?}");
    ensure!(live.stop()?.broken() == 0, "broken connections");
    Ok(Cut {
        detected: Duration::from_nanos(down_ns.saturating_sub(cut_ns)),
        udp,
        tcp,
        up,
        moved,
        least: own.len() as u64,
    })
}

fn row(kind: Kind, cuts: &[Cut]) -> String {
    let shown = |time: fn(&Cut) -> Duration| {
        let mut times: Vec<_> = cuts.iter().map(|cut| time(cut).as_millis()).collect();
        times.sort_unstable();
        let worst = times.last().copied().unwrap_or_default();
        format!("{} / {worst}", times[times.len() / 2])
    };
    let sum = |flows: fn(&Cut) -> u64| cuts.iter().map(flows).sum::<u64>();
    format!(
        "| {} | {} | {} | {} | {} | {} of {} |",
        kind.name(),
        shown(|cut| cut.detected),
        shown(|cut| cut.udp),
        shown(|cut| cut.tcp),
        shown(|cut| cut.up),
        sum(|cut| cut.moved),
        sum(|cut| cut.least)
    )
}

/// The clock of the maps.
fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(Duration::from(now).as_nanos())?)
}
