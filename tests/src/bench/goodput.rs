//! What parallel TCP flows get of several tunnels, in both directions.

use std::time::Duration;

use anyhow::Result;

use super::field::{Field, Shape};
use super::peers::{Peer, RECIPES};
use super::rounds::Rounds;
use super::side_by_side::{self, Column, Table};
use super::values::Value;
use super::{Report, Request};
use crate::lab::{DeviceCounters, Family, Side, TUNNEL_MTU, tunnel_name, wait};
use crate::traffic::{Bulk, Download};

const METHOD: &str = "TCP flows from one client to one server, all opened by the client; bytes that arrived in 2.5 s after 1 s to find \
     their rate. Ideal is what the tunnels' shapers let through, less headers, of as many tunnels as there are flows at \
     most. Each round has other ports and a fresh lab: the spread is that of placements. Bytes of a tunnel are what its device \
     counted.";

/// Rate of a tunnel: eight of them are no load for userspace WireGuard.
const RATE_MBIT: u32 = 10;
/// Time for TCP to find its rate.
const RAMP_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_millis(2_500);
/// Headers of IPv4 and TCP with timestamps.
const HEADERS: u32 = 20 + 32;
/// What the shaper counts around a packet: Ethernet, IPv4, UDP, WireGuard.
const AROUND: u32 = 14 + 20 + 8 + 32;

const PEERS: [Peer; 9] = [
    Peer::Multipath1,
    Peer::Multipath3,
    Peer::Resilient,
    Peer::Classic,
    Peer::NftTurns,
    Peer::NftHash,
    Peer::SteerIngress,
    Peer::SteerEgress,
    Peer::SteerMark,
];
/// Flows and tunnels that tell most.
const FEW: [(usize, usize); 3] = [(2, 2), (10, 4), (10, 8)];
const FLOWS: [usize; 4] = [2, 4, 10, 32];
const TUNNELS: [usize; 3] = [2, 4, 8];

/// Measures a few numbers of flows and tunnels, or all (`full`); `done` hears what each system did.
pub fn run(request: &Request, full: bool, done: fn(&str)) -> Result<Report> {
    let method = format!("{METHOD} {RECIPES}");
    let mut rounds = Rounds::new("goodput", method, request, &PEERS, done)?;
    for (flows, tunnels) in sizes(full) {
        let what = format!("{flows} flows over {tunnels} tunnels");
        rounds.measure(&what, &PEERS, |peer, seed| {
            let shape = Shape {
                rate_mbit: RATE_MBIT,
                ..Shape::of(tunnels, seed)
            };
            let mut field = Field::up(peer, shape)?;
            let mut values = Vec::new();
            for direction in Direction::BOTH {
                let got = direction.measure(&mut field, flows)?;
                for (what, unit, value) in got.figures(flows, tunnels) {
                    let group = group(flows, tunnels, direction, &what);
                    values.push(Value::new(group, unit, value));
                }
            }
            Ok(values)
        })?;
    }
    rounds.paired()
}

/// What is shown: for each number of flows and tunnels, what arrived, and the tunnels' shares of it.
pub fn tables(report: &Report) -> Vec<Table<'_>> {
    let sizes = sizes(true).into_iter();
    sizes
        .flat_map(|(flows, tunnels)| {
            let [up, down] = Direction::BOTH.map(|way| shares(report, flows, tunnels, way));
            [arrived(report, flows, tunnels), up, down]
        })
        .collect()
}

fn arrived(report: &Report, flows: usize, tunnels: usize) -> Table<'_> {
    let column = |direction: Direction, (what, heading): (&str, &str)| {
        let heading = format!("{} {heading}", direction.short());
        let name = group(flows, tunnels, direction, what);
        Column::of(report, &name, heading, side_by_side::median)
    };
    let both = Direction::BOTH.into_iter();
    let columns = both.flat_map(|direction| WHAT.map(|what| column(direction, what)));
    Table {
        title: format!("{flows} flows over {tunnels} tunnels"),
        columns: columns.flatten().collect(),
    }
}

fn shares(report: &Report, flows: usize, tunnels: usize, direction: Direction) -> Table<'_> {
    let column = |tunnel| {
        let name = group(flows, tunnels, direction, &share_of(tunnel));
        Column::of(report, &name, tunnel_name(tunnel), side_by_side::whole)
    };
    let title = format!("{flows} flows over {tunnels} tunnels, {}", direction.name());
    Table {
        title: format!("{title}: % of the bytes by tunnel"),
        columns: (0..tunnels).filter_map(column).collect(),
    }
}

/// What is told of each direction, with its heading.
const WHAT: [(&str, &str); 3] = [
    ("goodput", "% of ideal"),
    ("bytes on the busiest tunnel by an even share", "busiest"),
    ("segments sent again", "again ‰"),
];

/// What is told of each tunnel.
fn share_of(tunnel: usize) -> String {
    format!("bytes on {}", tunnel_name(tunnel))
}

fn sizes(full: bool) -> Vec<(usize, usize)> {
    if !full {
        return FEW.to_vec();
    }
    let of = |tunnels| FLOWS.map(move |flows| (flows, tunnels));
    TUNNELS.into_iter().flat_map(of).collect()
}

fn group(flows: usize, tunnels: usize, direction: Direction, what: &str) -> String {
    format!(
        "{flows} flows, {tunnels} tunnels, {}: {what}",
        direction.name()
    )
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// The client.
    Up,
    /// The server.
    Down,
}

/// What was measured once.
struct Got {
    mbit: f64,
    /// Bytes by tunnel.
    bytes: Vec<u64>,
    sent: u64,
    resent: u64,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Up, Self::Down];

    fn name(self) -> &'static str {
        match self {
            Self::Up => "client to server",
            Self::Down => "server to client",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    fn measure(self, field: &mut Field, flows: usize) -> Result<Got> {
        let lab = &field.lab;
        let (sender, gateway) = match self {
            Self::Up => (lab.client(), Side::A),
            Self::Down => (lab.server(), Side::B),
        };
        let counters = || -> Result<_> { Ok((lab.tunnel_counters(gateway)?, sender.segments()?)) };
        let ((before, segments), mbit, (after, later)) = match self {
            Self::Up => {
                let mut bulk = Bulk::start(lab, &field.server, Family::V4, flows)?;
                wait::pause(RAMP_UP)?;
                let before = counters()?;
                (before, bulk.goodput(&field.server, MEASURED)?, counters()?)
            }
            Self::Down => {
                let mut download = Download::start(lab, Family::V4, flows)?;
                wait::pause(RAMP_UP)?;
                let before = counters()?;
                (before, download.goodput(MEASURED)?, counters()?)
            }
        };
        let sent = |(after, before): (&DeviceCounters, &DeviceCounters)| {
            after.tx_bytes.saturating_sub(before.tx_bytes)
        };
        Ok(Got {
            mbit,
            bytes: after.iter().zip(&before).map(sent).collect(),
            sent: later.sent - segments.sent,
            resent: later.resent - segments.resent,
        })
    }
}

impl Got {
    /// The values of [`WHAT`] and each tunnel's share, with units.
    #[expect(clippy::cast_precision_loss, reason = "measured rates")]
    fn figures(&self, flows: usize, tunnels: usize) -> Vec<(String, &'static str, f64)> {
        let used = flows.min(tunnels) as f64;
        let all = (self.bytes.iter().sum::<u64>() as f64).max(1.0);
        let busiest = self.bytes.iter().copied().max().unwrap_or_default() as f64;
        let sent = (self.sent + self.resent).max(1) as f64;
        let values = [
            ("% of ideal", 100.0 * self.mbit / (used * tunnel_mbit())),
            ("times", busiest / all * used),
            ("per 1,000", 1_000.0 * self.resent as f64 / sent),
        ];
        let named = WHAT.iter().zip(values);
        let named = named.map(|((what, _), (unit, value))| ((*what).to_owned(), unit, value));
        let shares = self.bytes.iter().enumerate();
        let shares = shares.map(|(tunnel, bytes)| {
            let share = 100.0 * *bytes as f64 / all;
            (share_of(tunnel), "% of bytes", share)
        });
        named.chain(shares).collect()
    }
}

/// What TCP can get of one tunnel.
fn tunnel_mbit() -> f64 {
    f64::from(RATE_MBIT) * f64::from(TUNNEL_MTU - HEADERS) / f64::from(TUNNEL_MTU + AROUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_tunnel_gives() {
        let got = Got {
            mbit: 2.0 * tunnel_mbit(),
            bytes: vec![600, 200, 0, 0],
            sent: 998,
            resent: 2,
        };
        let figures = |flows, tunnels| {
            let figures = got.figures(flows, tunnels).into_iter();
            let texts = figures.map(|(_, unit, value)| format!("{value:.3} {unit}"));
            texts.collect::<Vec<_>>()
        };
        let expected = ["50.000 % of ideal", "3.000 times", "2.000 per 1,000"];
        assert_eq!(figures(10, 4)[..3], expected);
        let shares = [
            "75.000 % of bytes",
            "25.000 % of bytes",
            "0.000 % of bytes",
            "0.000 % of bytes",
        ];
        assert_eq!(figures(10, 4)[3..], shares);
        // Two flows fill two tunnels at most.
        let expected = ["100.000 % of ideal", "1.500 times", "2.000 per 1,000"];
        assert_eq!(figures(2, 4)[..3], expected);
    }
}
