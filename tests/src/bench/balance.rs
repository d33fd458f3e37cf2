//! How evenly a few flows are spread over the tunnels.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::field::{Field, Shape};
use super::peers::{Peer, RECIPES};
use super::rounds::Rounds;
use super::side_by_side::{self, Cell, Column, Table};
use super::values::Value;
use super::{Report, Request};
use crate::lab::{Family, Observer};
use crate::traffic::burst;

const METHOD: &str = "New UDP flows from one client to one server; which tunnel took each is seen on the wire. So many flows in a row \
     are one try. Even is what no placement betters: the flows by the tunnels, rounded up, on the busiest tunnel. steer's \
     modes share one hash, so one of them stands for all.";

/// Numbers of flows, and of tunnels.
const FLOWS: [usize; 4] = [2, 4, 10, 32];
const TUNNELS: [usize; 3] = [2, 4, 8];
const PEERS: [Peer; 7] = [
    Peer::Multipath1,
    Peer::Multipath3,
    Peer::Resilient,
    Peer::Classic,
    Peer::NftTurns,
    Peer::NftHash,
    Peer::SteerIngress,
];

/// Measures so many tries in each round; `done` hears what each system did.
pub fn run(request: &Request, tries: usize, done: fn(&str)) -> Result<Report> {
    let method = format!("{METHOD} {tries} tries in each round. {RECIPES}");
    let mut rounds = Rounds::new("balance", method, request, &PEERS, done)?;
    for tunnels in TUNNELS {
        rounds.measure(&format!("{tunnels} tunnels"), &PEERS, |peer, seed| {
            one(peer, Shape::of(tunnels, seed), tries)
        })?;
    }
    rounds.unpaired()
}

/// What is shown: two tables for each number of tunnels.
pub fn tables(report: &Report) -> Vec<Table<'_>> {
    let kinds: [(_, Cell, _); 2] = [
        (BUSIEST, side_by_side::mean_and_max, ", mean / worst"),
        (ALL_USED, side_by_side::mean, ", %"),
    ];
    let table = |tunnels, (what, cell, shown)| {
        let columns = FLOWS.iter().filter_map(|flows| {
            let name = group(*flows, tunnels, what);
            Column::of(report, &name, format!("{flows} flows"), cell)
        });
        Table {
            title: format!("{tunnels} tunnels: {what}{shown}"),
            columns: columns.collect(),
        }
    };
    let all = TUNNELS.into_iter();
    all.flat_map(|tunnels| kinds.map(|kind| table(tunnels, kind)))
        .collect()
}

/// What is told of a try.
const BUSIEST: &str = "flows on the busiest tunnel by an even share";
/// The other.
const ALL_USED: &str = "tries in which no tunnel is idle that need not be";

fn group(flows: usize, tunnels: usize, what: &str) -> String {
    format!("{flows} flows, {tunnels} tunnels: {what}")
}

fn one(peer: Peer, shape: Shape, tries: usize) -> Result<Vec<Value>> {
    let tunnels = shape.tunnels;
    let field = Field::up(peer, shape)?;
    let observer = Observer::start(&field.lab)?;
    let mut values = Vec::new();
    for flows in FLOWS {
        observer.take()?;
        let new = burst(&field.lab, Family::V4, flows * tries)?;
        let seen = observer.take()?;
        for one_try in new.flows.chunks_exact(flows) {
            let tunnel = |flow| {
                let paths = seen.paths(flow);
                (paths.and_then(crate::lab::Paths::only_tunnel)).context("a flow on two tunnels")
            };
            let taken = one_try.iter().map(tunnel).collect::<Result<Vec<_>>>()?;
            let (busiest, is_full) = imbalance(&taken, tunnels);
            let full = if is_full { 100.0 } else { 0.0 };
            values.push(Value::new(group(flows, tunnels, BUSIEST), "times", busiest));
            values.push(Value::new(group(flows, tunnels, ALL_USED), "%", full));
        }
    }
    Ok(values)
}

/// Flows on the busiest tunnel by an even share, and whether as many tunnels are used as can be.
#[expect(clippy::cast_precision_loss, reason = "a few flows")]
fn imbalance(taken: &[usize], tunnels: usize) -> (f64, bool) {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for tunnel in taken {
        *counts.entry(*tunnel).or_default() += 1;
    }
    let busiest = counts.values().copied().max().unwrap_or_default();
    let even = taken.len().div_ceil(tunnels);
    let is_full = counts.len() == tunnels.min(taken.len());
    (busiest as f64 / even as f64, is_full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_tunnel_counts() {
        assert_eq!(imbalance(&[0, 1], 2), (1.0, true));
        assert_eq!(imbalance(&[1, 1], 2), (2.0, false));
        // Of ten flows over four tunnels, one has three.
        assert_eq!(imbalance(&[0, 0, 0, 1, 1, 1, 2, 2, 3, 3], 4), (1.0, true));
        assert_eq!(imbalance(&[0, 0, 0, 1], 8), (3.0, false));
    }
}
