//! How many live flows change their tunnel, and how many connections break, when tunnels and weights change.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::field::{Field, Shape};
use super::peers::{Member, Peer, RECIPES};
use super::rounds::Rounds;
use super::side_by_side::{self, Column, Table};
use super::values::Value;
use super::{Report, Request};
use crate::lab::{Conversation, Family, Observer, Paths, Protocol, Seen, Side, wait};
use crate::traffic::{FlowReport, LiveFlows, LiveSpec, burst};

const METHOD: &str = "Two gateways with four WireGuard tunnels, the system on both; 100 TCP and 100 UDP flows with a message \
     every 100 ms, and 4,000 short ones before each change. Gateway A's operator changes what is listed there; which \
     tunnels carry each flow is seen on the wire, for 3 s after each change. A connection is broken, and a UDP flow lost, if its \
     last second passes without an echo; it is not looked at after later changes. Each round has other ports and a fresh lab. \
     All buckets of the resilient group are busy, as on a busy gateway: new flows come to a returned tunnel only by buckets that \
     were idle for the whole of its timer.";

const TUNNELS: usize = 4;
/// Flows of each protocol.
const FLOWS: usize = 100;
const INTERVAL: Duration = Duration::from_millis(100);
/// Five messages of each flow.
const WINDOW: Duration = Duration::from_millis(500);
/// From a change until connections that live must be seen to live.
const SETTLE: Duration = Duration::from_secs(2);
/// For how long they are looked at then.
const LIFE: Duration = Duration::from_secs(1);
/// Short flows before each change, as every gateway has them: no bucket of a resilient group is idle.
const OTHERS: usize = 4_000;
/// New flows after a tunnel's return.
const NEW_FLOWS: usize = 400;

/// What happened by one change.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Flows of each protocol that were alive.
    live: Count,
    /// Those that used another tunnel then.
    moved: Count,
    /// Those whose tunnel is not in use any more.
    least: Count,
    /// Those that got no answer any more.
    dead: Count,
}

/// Flows by protocol.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tcp: usize,
    udp: usize,
}

impl Count {
    fn add(&mut self, protocol: Protocol, is_one: bool) {
        let count = match protocol {
            Protocol::Tcp => &mut self.tcp,
            Protocol::Udp => &mut self.udp,
        };
        *count += usize::from(is_one);
    }

    fn all(self) -> usize {
        self.tcp + self.udp
    }
}

/// Measures; `done` hears what each system did.
pub fn run(request: &Request, done: fn(&str)) -> Result<Report> {
    let method = format!("{METHOD} {RECIPES}");
    let mut rounds = Rounds::new("stickiness", method, request, &peers(false), done)?;
    for masquerade in [false, true] {
        rounds.measure(nat(masquerade), &peers(masquerade), |peer, seed| {
            let shape = Shape {
                masquerade,
                ..Shape::of(TUNNELS, seed)
            };
            one(peer, shape)
        })?;
    }
    for peer in [Peer::SteerIngress, Peer::SteerEgress] {
        let reason = "nothing is masqueraded past netfilter, nor behind it";
        rounds.leave_out(&format!("{peer}, {}: {reason}", nat(true)));
    }
    rounds.paired()
}

/// What is shown: of moved flows, of broken connections and of lost UDP flows, without NAT and with it.
pub fn tables(report: &Report) -> Vec<Table<'_>> {
    let kinds = [
        ("flows that changed their tunnel, %", MOVED),
        ("TCP connections that broke, %", BROKEN),
        ("UDP flows that were lost, %", LOST),
    ];
    let table = |masquerade, (what, names): (&str, &[(&str, &str)])| {
        let columns = names.iter().filter_map(|(heading, name)| {
            let name = format!("{}: {name}", nat(masquerade));
            Column::of(report, &name, *heading, side_by_side::median)
        });
        Table {
            title: format!("{}: {what}", nat(masquerade)),
            columns: columns.collect(),
        }
    };
    let both = [false, true].into_iter();
    both.flat_map(|masquerade| kinds.map(|kind| table(masquerade, kind)))
        .collect()
}

/// Heading and name of what is shown of the moved flows.
const MOVED: &[(&str, &str)] = &[
    ("weights", "weights 1:1:1:1 to 3:1:1:1, moved"),
    ("removal", "a tunnel is removed, moved"),
    ("least", "a tunnel is removed, had to move"),
    ("return", "it returns, moved"),
    ("new on it", "it returns, new flows that use it"),
    ("order", "listed in another order, moved"),
];
/// The same of broken connections.
const BROKEN: &[(&str, &str)] = &[
    ("weights", "weights 1:1:1:1 to 3:1:1:1, broken"),
    ("removal", "a tunnel is removed, broken"),
    ("least", "a tunnel is removed, had to break"),
    ("return", "it returns, broken"),
    ("order", "listed in another order, broken"),
];
/// The same of lost UDP flows.
const LOST: &[(&str, &str)] = &[
    ("weights", "weights 1:1:1:1 to 3:1:1:1, lost"),
    ("removal", "a tunnel is removed, lost"),
    ("return", "it returns, lost"),
    ("order", "listed in another order, lost"),
];

fn nat(masquerade: bool) -> &'static str {
    if masquerade {
        "masquerade per tunnel"
    } else {
        "without NAT"
    }
}

/// Who takes part. Past netfilter, nothing is masqueraded.
fn peers(masquerade: bool) -> Vec<Peer> {
    let mut peers = vec![
        Peer::Multipath1,
        Peer::Multipath3,
        Peer::Resilient,
        Peer::Classic,
        Peer::NftTurns,
        Peer::NftHash,
    ];
    if !masquerade {
        peers.extend([Peer::SteerIngress, Peer::SteerEgress]);
    }
    peers.push(Peer::SteerMark);
    peers
}

/// One system goes through all changes.
fn one(peer: Peer, shape: Shape) -> Result<Vec<Value>> {
    let masquerade = shape.masquerade;
    let mut field = Field::up(peer, shape)?;
    let all = Member::all(TUNNELS);

    let mut heavier = all.clone();
    heavier[0].weight = 3;
    let mut life = Life::start(&field)?;
    let weights = life.through(&mut field, &heavier)?;
    drop(life);
    field.change(&all)?;

    let mut life = Life::start(&field)?;
    let removal = life.through(&mut field, &all[..TUNNELS - 1])?;
    let back = life.through(&mut field, &all)?;
    let new = life.new_on(&field, TUNNELS - 1)?;
    drop(life);

    let reversed: Vec<_> = all.iter().rev().copied().collect();
    let mut life = Life::start(&field)?;
    let order = life.through(&mut field, &reversed)?;
    drop(life);

    let mut values = Vec::new();
    let mut note = |what: &str, unit, value| {
        let group = format!("{}: {what}", nat(masquerade));
        values.push(Value::new(group, unit, value));
    };
    for (what, outcome) in [
        ("weights 1:1:1:1 to 3:1:1:1", weights),
        ("a tunnel is removed", removal),
        ("it returns", back),
        ("listed in another order", order),
    ] {
        let Outcome {
            live, moved, dead, ..
        } = outcome;
        let moved = percent(moved.all(), live.all());
        note(&format!("{what}, moved"), "% of flows", moved);
        let broken = percent(dead.tcp, live.tcp);
        note(&format!("{what}, broken"), "% of TCP", broken);
        let lost = percent(dead.udp, live.udp);
        note(&format!("{what}, lost"), "% of UDP", lost);
    }
    let Outcome { live, least, .. } = removal;
    let moved = percent(least.all(), live.all());
    note("a tunnel is removed, had to move", "% of flows", moved);
    // With its tunnel, a connection loses the address that it has behind a NAT. A UDP flow gets another one.
    let least = if masquerade { least.tcp } else { 0 };
    let broken = percent(least, live.tcp);
    note("a tunnel is removed, had to break", "% of TCP", broken);
    let new = percent(new, NEW_FLOWS);
    note("it returns, new flows that use it", "% of flows", new);
    Ok(values)
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred flows")]
fn percent(part: usize, all: usize) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

/// Live flows that are observed.
struct Life {
    live: LiveFlows,
    observer: Observer,
    /// Those that got no answer any more.
    dead: HashSet<Conversation>,
}

impl Life {
    fn start(field: &Field) -> Result<Self> {
        let spec = LiveSpec {
            family: Family::V4,
            tcp: FLOWS,
            udp: FLOWS,
            interval: INTERVAL,
        };
        Ok(Self {
            observer: Observer::start(&field.lab)?,
            live: LiveFlows::start(&field.lab, spec)?,
            dead: HashSet::new(),
        })
    }

    /// What a change does to the flows that are still alive.
    fn through(&mut self, field: &mut Field, to: &[Member]) -> Result<Outcome> {
        let mut flows = self.live.conversations();
        flows.retain(|flow| !self.dead.contains(flow));
        let all_seen = |seen: &Seen| from_client(seen).shows(&flows);
        let before = self.observer.window_until(WINDOW, all_seen)?;
        ensure!(
            all_seen(&before),
            "not all of {} live flows were seen before the change",
            flows.len()
        );
        burst(&field.lab, Family::V4, OTHERS)?;
        self.observer.take()?;
        field.change(to)?;
        wait::pause(SETTLE)?;
        let echoes = self.live.report()?;
        wait::pause(LIFE)?;
        let after = self.observer.take()?;
        let now = self.live.report()?;

        let reports = echoes.flows.iter().zip(&now.flows);
        let silent = reports.filter(|(then, now)| is_silent(then, now));
        let silent: HashSet<_> = silent.map(|(_, now)| now.conversation).collect();
        let outcome = outcome(
            &flows,
            &from_client(&before),
            &from_client(&after),
            &silent,
            to,
        );
        self.dead.extend(silent);
        Ok(outcome)
    }

    /// How many of [`NEW_FLOWS`] use a tunnel.
    fn new_on(&self, field: &Field, tunnel: usize) -> Result<usize> {
        self.observer.take()?;
        let new = burst(&field.lab, Family::V4, NEW_FLOWS)?;
        let (on_it, _) = from_client(&self.observer.take()?).split(&new.flows, tunnel);
        Ok(on_it.len())
    }
}

/// The flows' tunnels, whatever address a NAT gave them.
fn from_client(seen: &Seen) -> Seen {
    seen.as_from(Side::A.host(Family::V4))
}

/// Whether nothing was answered since then.
fn is_silent(then: &FlowReport, now: &FlowReport) -> bool {
    now.broken || now.echoed == then.echoed
}

/// What became of flows, of which those that are `silent` now are dead, as are those that were not seen any more.
fn outcome(
    flows: &[Conversation],
    before: &Seen,
    after: &Seen,
    silent: &HashSet<Conversation>,
    to: &[Member],
) -> Outcome {
    let is_used = |tunnel: &usize| to.iter().any(|member| member.tunnel == *tunnel);
    let mut outcome = Outcome::default();
    for flow in flows {
        let tunnels = |seen: &Seen| seen.paths(flow).map(Paths::forward_tunnels);
        let was = tunnels(before).unwrap_or_default();
        let is = tunnels(after);
        let has_moved = is.as_ref().is_some_and(|is| !is.is_subset(&was));
        let is_dead = is.is_none() || silent.contains(flow);
        outcome.live.add(flow.protocol, true);
        outcome.moved.add(flow.protocol, has_moved);
        outcome.least.add(flow.protocol, !was.iter().all(is_used));
        outcome.dead.add(flow.protocol, is_dead);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_is_not_seen_any_more_is_dead_and_not_one_that_stayed() {
        let flow = |protocol, port| Conversation {
            protocol,
            client: ([10, 1, 0, 2], port).into(),
            server: ([10, 2, 0, 2], 7_001).into(),
        };
        let (stays, moves) = (flow(Protocol::Tcp, 1), flow(Protocol::Udp, 2));
        let (goes, breaks) = (flow(Protocol::Udp, 3), flow(Protocol::Tcp, 4));
        let before = Seen::of(&[(stays, 0), (moves, 1), (goes, 1), (breaks, 0)]);
        let after = Seen::of(&[(stays, 0), (moves, 0), (breaks, 0)]);
        let all = [stays, moves, goes, breaks];
        let to = &Member::all(2)[..1];
        let outcome = outcome(&all, &before, &after, &HashSet::from([breaks]), to);
        let counts = [outcome.live, outcome.moved, outcome.least, outcome.dead];
        let counts = counts.map(|count| (count.tcp, count.udp));
        assert_eq!(counts, [(2, 2), (0, 1), (0, 2), (1, 1)]);
    }
}
