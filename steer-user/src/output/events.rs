//! `steerctl events`: what happened, a line or an object each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use steer_common::abi::{
    Admin, Cause, Endpoint, Event, EventKind, FlowKey, Health, HealthReason, HookKind, Move,
};

use super::flows::endpoint;
use crate::plan::{FlowNumbers, decode_name, protocol_name};

/// More moves of one kind than this are one line.
const MOVES_SHOWN: usize = 10;
/// Moves of one kind that are further apart are not the same happening.
const MOVES_APART_NS: u64 = 1_000_000_000;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// To the control plane.
    Event(Event),
    /// To a flow.
    Move(Move),
    /// To as many flows, the first of which is this.
    Moves(Move, usize),
    /// As many, which were written over before they were read.
    Lost(u64),
}

impl Happening {
    /// When, on the clock of the maps.
    pub fn at_ns(&self) -> Option<u64> {
        match self {
            Self::Event(event) => Some(event.at_ns),
            Self::Move(moved) | Self::Moves(moved, _) => Some(moved.at_ns),
            Self::Lost(_) => None,
        }
    }
}

/// Makes one line of many moves that have tunnels and reason in common.
pub fn collapse(happenings: Vec<Happening>) -> Vec<Happening> {
    let kind = |moved: &Move| (moved.from, moved.to, moved.group, moved.reason as u32);
    // By kind the latest run; by run its number of moves.
    let mut latest: BTreeMap<_, (usize, u64)> = BTreeMap::new();
    let mut counts: Vec<usize> = Vec::new();
    let runs: Vec<Option<usize>> = happenings
        .iter()
        .map(|happening| {
            let Happening::Move(moved) = happening else {
                return None;
            };
            let run = match latest.get(&kind(moved)) {
                Some((run, at)) if moved.at_ns.saturating_sub(*at) <= MOVES_APART_NS => *run,
                _ => {
                    counts.push(0);
                    counts.len() - 1
                }
            };
            counts[run] += 1;
            latest.insert(kind(moved), (run, moved.at_ns));
            Some(run)
        })
        .collect();
    let mut told = vec![false; counts.len()];
    happenings
        .into_iter()
        .zip(runs)
        .filter_map(|(happening, run)| match (happening, run) {
            (Happening::Move(first), Some(run)) if counts[run] > MOVES_SHOWN => {
                let was_told = std::mem::replace(&mut told[run], true);
                (!was_told).then_some(Happening::Moves(first, counts[run]))
            }
            (other, _) => Some(other),
        })
        .collect()
}

/// Names of what events and moves number.
#[derive(Clone, Debug, Default)]
pub struct NameBook {
    /// Tunnels by id; those that are gone, too.
    pub tunnels: BTreeMap<u32, String>,
    /// Groups by id.
    pub groups: BTreeMap<u32, String>,
}

impl NameBook {
    fn tunnel(&self, id: u32) -> String {
        let unknown = || format!("tunnel {id}");
        self.tunnels.get(&id).cloned().unwrap_or_else(unknown)
    }

    fn group(&self, id: u32) -> Option<String> {
        self.groups.get(&id).cloned()
    }
}

/// Something that happened, for scripts: all keys, `null` where there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventReport {
    /// When: RFC 3339, UTC.
    pub time: Option<String>,
    /// What: `weight_changed`, `flow_moved`, `lost`, …
    pub event: String,
    /// The group that it is about.
    pub group: Option<String>,
    /// The tunnel that it is about.
    pub tunnel: Option<String>,
    /// What was: a weight, a state, the tunnel that a flow was on.
    pub before: Option<Value>,
    /// What is.
    pub after: Option<Value>,
    /// How many flows, prefixes or events.
    pub count: Option<u64>,
    /// Why, where that is known.
    pub reason: Option<String>,
    /// Who: `operator`, `config`, `daemon`, `routes` or `auto`.
    pub cause: Option<String>,
    /// The device that it is about.
    pub device: Option<String>,
    /// The prefix that it is about.
    pub prefix: Option<String>,
    /// The flow that it is about.
    pub flow: Option<MovedFlow>,
    /// When, in nanoseconds of the clock that the maps use.
    pub at_ns: Option<u64>,
    /// The number of the tunnel that it is about.
    pub tunnel_id: Option<u32>,
}

/// A value that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u32),
    /// A name.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A flow that was moved. `src` is the side behind this gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MovedFlow {
    /// Name or number of the IP protocol.
    pub protocol: String,
    /// Address behind this gateway.
    pub src_addr: IpAddr,
    /// Port or echo identifier; `null` where the protocol has none.
    pub src_port: Option<u16>,
    /// Address behind the tunnels.
    pub dst_addr: IpAddr,
    /// Port or echo identifier; `null` where the protocol has none.
    pub dst_port: Option<u16>,
}

impl EventReport {
    /// Of something that happened at a time in RFC 3339. `flow` tells a flow's sides apart.
    pub fn new(
        happening: &Happening,
        time: Option<String>,
        names: &NameBook,
        flow: impl FnOnce(&FlowKey) -> MovedFlow,
    ) -> Self {
        let of_move = |moved: &Move| Self {
            event: "flow_moved".into(),
            group: names.group(moved.group),
            before: Some(Value::Text(names.tunnel(moved.from))),
            after: Some(Value::Text(names.tunnel(moved.to))),
            reason: Some(moved.reason.name().into()),
            ..Self::default()
        };
        let mut report = match happening {
            Happening::Event(event) => Self::of_event(event, names),
            Happening::Move(moved) => Self {
                flow: Some(flow(&moved.key)),
                ..of_move(moved)
            },
            Happening::Moves(first, count) => Self {
                count: u64::try_from(*count).ok(),
                ..of_move(first)
            },
            Happening::Lost(count) => Self {
                event: "lost".into(),
                count: Some(*count),
                ..Self::default()
            },
        };
        report.time = time;
        report.at_ns = happening.at_ns();
        report
    }

    fn of_event(event: &Event, names: &NameBook) -> Self {
        let name = || Some(decode_name(&event.name)).filter(|name| !name.is_empty());
        let mut report = Self {
            event: event_name(event).into(),
            group: names.group(event.group),
            cause: Some(event.cause)
                .filter(|cause| *cause != Cause::Unset)
                .map(|cause| cause.name().into()),
            reason: Some(event.reason)
                .filter(|reason| *reason != HealthReason::Unknown)
                .map(|reason| reason.name().into()),
            ..Self::default()
        };
        let numbers = (Value::Number(event.before), Value::Number(event.after));
        let mut both = |(before, after): (Value, Value)| {
            report.before = Some(before);
            report.after = Some(after);
        };
        let named = |name: fn(u32) -> Option<&'static str>| {
            let text = |number: u32| match name(number) {
                Some(name) => Value::Text(name.into()),
                None => Value::Number(number),
            };
            (text(event.before), text(event.after))
        };
        match event.kind {
            EventKind::HealthChanged => both(named(health_name)),
            EventKind::AdminChanged => both(named(admin_name)),
            EventKind::WeightChanged | EventKind::TierChanged | EventKind::DeviceChanged => {
                both(numbers);
            }
            EventKind::TunnelAdded => report.after = Some(numbers.1),
            EventKind::RoutesChanged | EventKind::Rebalanced | EventKind::DrainDone => {
                both(numbers);
                report.count = Some(event.count.into());
            }
            EventKind::PrefixAdded => report.prefix = Some(prefix(event.name, event.after)),
            EventKind::PrefixRemoved => report.prefix = Some(prefix(event.name, event.before)),
            EventKind::Attached => report.after = hook_name(event.after),
            EventKind::Detached => report.before = hook_name(event.before),
            EventKind::Empty
            | EventKind::Started
            | EventKind::Stopped
            | EventKind::ReloadRefused
            | EventKind::TunnelRemoved => {}
            EventKind::Reloaded => report.count = Some(event.count.into()),
        }
        match event.kind {
            EventKind::Attached | EventKind::Detached => report.device = name(),
            EventKind::HealthChanged
            | EventKind::AdminChanged
            | EventKind::WeightChanged
            | EventKind::TierChanged
            | EventKind::DeviceChanged
            | EventKind::TunnelAdded
            | EventKind::TunnelRemoved
            | EventKind::DrainDone => {
                report.tunnel_id = Some(event.tunnel);
                report.tunnel = name().or_else(|| Some(names.tunnel(event.tunnel)));
            }
            _ => {}
        }
        report
    }

    /// The tunnel's number, behind something.
    fn id(&self, before: &str) -> String {
        let text = |id| format!("{before}id {id}");
        self.tunnel_id.map_or_else(String::new, text)
    }

    /// A line for people: when, what, about what, before → after, why, who.
    pub fn line(&self) -> String {
        if self.event == "lost" {
            let count = self.count.unwrap_or(0);
            return format!("… {count} events lost (overwritten before they were read)\n");
        }
        let subject = match (&self.flow, self.count) {
            (Some(flow), _) => flow.text(),
            (None, Some(count)) if self.event == "flow_moved" => format!("{count} flows"),
            _ => self
                .device
                .as_ref()
                .or(self.tunnel.as_ref())
                .or(self.prefix.as_ref())
                .or(self.group.as_ref())
                .map_or_else(String::new, Clone::clone),
        };
        let change = match (self.event.as_str(), &self.before, &self.after) {
            ("rebalanced" | "drain_done", _, Some(left)) => {
                format!("{} flows moved, {left} left", self.count.unwrap_or(0))
            }
            ("routes_changed" | "prefixes_changed", Some(before), Some(after)) => {
                let count = self.count.unwrap_or(0);
                format!("{count} prefixes, {before} → {after}")
            }
            ("reloaded", ..) => format!("{} changes", self.count.unwrap_or(0)),
            ("tunnel_added", _, Some(weight)) => format!("weight {weight}{}", self.id(", ")),
            ("tunnel_removed", ..) => self.id(""),
            (_, Some(before), Some(after)) => format!("{before} → {after}"),
            (_, Some(only), None) | (_, None, Some(only)) => only.to_string(),
            (_, None, None) => String::new(),
        };
        let time = self.time.as_deref().unwrap_or("-");
        let mut line = format!("{time}  {:<15}", self.event);
        let who = self.cause.as_ref().map(|cause| format!("({cause})"));
        let parts = [Some(subject), Some(change), self.reason.clone(), who];
        for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
            line.push_str("  ");
            line.push_str(&part);
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

impl MovedFlow {
    fn text(&self) -> String {
        format!(
            "{} {} > {}",
            self.protocol,
            endpoint(self.src_addr, self.src_port),
            endpoint(self.dst_addr, self.dst_port)
        )
    }
}

/// The name of an event. Many prefixes at once are one event, whether routes changed or somebody wrote others.
fn event_name(event: &Event) -> &'static str {
    match (event.kind, event.cause) {
        (EventKind::RoutesChanged, Cause::Operator | Cause::Config) => "prefixes_changed",
        (kind, _) => kind.name(),
    }
}

fn prefix(addr: [u8; 16], length: u32) -> String {
    let addr = IpAddr::from(addr).to_canonical();
    format!("{addr}/{length}")
}

fn admin_name(number: u32) -> Option<&'static str> {
    let known: [Admin; 4] = [Admin::Absent, Admin::Active, Admin::Drain, Admin::Disabled];
    let found = known.iter().find(|admin| **admin as u32 == number);
    found.map(|admin| admin.name())
}

fn health_name(number: u32) -> Option<&'static str> {
    let known = [Health::Unknown, Health::Up, Health::Degraded, Health::Down];
    let found = known.iter().find(|health| **health as u32 == number);
    found.map(|health| health.name())
}

fn hook_name(number: u32) -> Option<Value> {
    let found = HookKind::ALL.iter().find(|kind| **kind as u32 == number);
    found.map(|kind| Value::Text(kind.name().into()))
}

/// A flow by its key, seen from one of its sides.
pub fn moved_flow(key: &FlowKey, local: Endpoint) -> MovedFlow {
    let number = u8::try_from(key.protocol).unwrap_or(u8::MAX);
    let numbers = FlowNumbers::of(number);
    let has_ports = matches!(numbers, FlowNumbers::Ports | FlowNumbers::Echo);
    let port = |endpoint| has_ports.then(|| key.port(endpoint));
    let address = |endpoint| IpAddr::from(*key.addr(endpoint)).to_canonical();
    MovedFlow {
        protocol: protocol_name(number),
        src_addr: address(local),
        src_port: port(local),
        dst_addr: address(local.other()),
        dst_port: port(local.other()),
    }
}

#[cfg(test)]
mod tests;
