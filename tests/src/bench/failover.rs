//! A tunnel whose packets are dropped in silence: how long until its flows are answered again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::field::{Field, Shape};
use super::peers::{Peer, RECIPES};
use super::rounds::Rounds;
use super::side_by_side::{self, Cell, Column, Table};
use super::values::Value;
use super::{Report, Request};
use crate::lab::{Conversation, Family, Observer, Paths, Protocol, wait};
use crate::scenario::watch::{busy, until_answering};
use crate::traffic::{LiveFlows, LiveReport};

const METHOD: &str = "Two tunnels, the system on both gateways with its defaults, 40 TCP and 40 UDP flows with a message every 40 ms. \
     Every packet of one tunnel is dropped between the gateways. The time from before the cut until each flow that used the \
     tunnel, there or back, had an answer to a message that it sent after the cut; never, if one has none within 5 s.";

/// The tunnel that is cut; there is one more.
const CUT: usize = 1;
const TUNNELS: usize = 2;
/// Longer is never.
const LIMIT: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);
/// So many flows of each protocol use the tunnel, or it says nothing of them.
const LEAST: usize = 5;
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

/// Measures; `done` hears what each system did.
pub fn run(request: &Request, done: fn(&str)) -> Result<Report> {
    let method = format!("{METHOD} {RECIPES}");
    let mut rounds = Rounds::new("failover", method, request, &PEERS, done)?;
    rounds.measure("a tunnel is cut", &PEERS, |peer, seed| {
        let recovered = one(peer, Shape::of(TUNNELS, seed))?;
        let values = NAMES.iter().zip(recovered).map(|(what, time)| {
            let secs = time.map_or(f64::INFINITY, |time| time.as_secs_f64());
            Value::new(*what, "s", secs)
        });
        Ok(values.collect())
    })?;
    rounds.paired()
}

const NAMES: [&str; 2] = ["UDP flows answered again", "TCP flows answered again"];

/// What is shown.
pub fn tables(report: &Report) -> Vec<Table<'_>> {
    let kinds: [(_, Cell); 2] = [
        ("median", side_by_side::seconds),
        ("worst", side_by_side::most_seconds),
    ];
    let protocols = ["UDP", "TCP"].into_iter().zip(NAMES);
    let columns = protocols.flat_map(|(protocol, name)| {
        kinds.map(|(kind, cell)| Column::of(report, name, format!("{protocol} {kind}"), cell))
    });
    vec![Table {
        title: "a tunnel's packets are dropped in silence: until its flows are answered, s"
            .to_owned(),
        columns: columns.flatten().collect(),
    }]
}

/// One cut: until UDP flows are answered again, and TCP flows.
fn one(peer: Peer, shape: Shape) -> Result<[Option<Duration>; 2]> {
    let field = Field::up(peer, shape)?;
    for steer in field.steers() {
        until_answering(steer, &["wg0", "wg1"])?;
    }
    let observer = Observer::start(&field.lab)?;
    let live = LiveFlows::start(&field.lab, busy(Family::V4))?;
    let flows = live.conversations();
    let before = observer.window(&flows, WINDOW)?;
    let uses_it = |flow: &Conversation| before.paths(flow).is_some_and(uses_cut);
    let [udp, tcp] = [Protocol::Udp, Protocol::Tcp].map(|protocol| {
        let own = flows.iter().filter(|flow| flow.protocol == protocol);
        own.copied().filter(uses_it).collect::<Vec<_>>()
    });
    ensure!(
        udp.len().min(tcp.len()) >= LEAST,
        "only {} UDP and {} TCP flows use the tunnel",
        udp.len(),
        tcp.len()
    );
    drop(observer);

    let start = Instant::now();
    field.lab.cut_tunnel(CUT)?;
    let at_cut = live.report()?;
    let mut recovered = [None; 2];
    while start.elapsed() < LIMIT && recovered.contains(&None) {
        wait::pause(POLL)?;
        let now = live.report()?;
        for (flows, recovered) in [&udp, &tcp].into_iter().zip(&mut recovered) {
            if are_answered(flows, &at_cut, &now) {
                recovered.get_or_insert(start.elapsed());
            }
        }
    }
    Ok(recovered)
}

/// Whether any packet of a flow took the tunnel that is cut, there or back.
fn uses_cut(paths: &Paths) -> bool {
    paths.forward.contains_key(&CUT) || paths.reverse.contains_key(&CUT)
}

/// Whether each of these flows has an answer to a message that it sent since then.
fn are_answered(flows: &[Conversation], then: &LiveReport, now: &LiveReport) -> bool {
    let reports = then.flows.iter().zip(&now.flows);
    let mut own = reports.filter(|(then, _)| flows.contains(&then.conversation));
    own.all(|(then, now)| now.echoed_up_to > then.sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::FlowReport;

    #[test]
    fn a_flow_uses_a_tunnel_there_or_back() {
        let paths = |forward, reverse| Paths {
            forward: [(forward, 1)].into(),
            reverse: [(reverse, 1)].into(),
        };
        assert!(uses_cut(&paths(CUT, 0)) && uses_cut(&paths(0, CUT)));
        assert!(!uses_cut(&paths(0, 0)));
    }

    #[test]
    fn an_answer_to_what_was_sent_before_does_not_count() {
        let flow = |port| Conversation {
            protocol: Protocol::Udp,
            client: ([10, 1, 0, 2], port).into(),
            server: ([10, 2, 0, 2], 7_001).into(),
        };
        let report = |port, sent, echoed_up_to| FlowReport {
            conversation: flow(port),
            sent,
            echoed: 1,
            echoed_up_to,
            broken: false,
            longest_gap: Duration::ZERO,
        };
        let reports = |echoed| LiveReport {
            flows: vec![report(1, 10, echoed), report(2, 10, 0)],
        };
        let then = reports(8);
        assert!(!are_answered(&[flow(1)], &then, &reports(10)));
        assert!(are_answered(&[flow(1)], &then, &reports(11)));
        assert!(!are_answered(&[flow(1), flow(2)], &then, &reports(11)));
    }
}
