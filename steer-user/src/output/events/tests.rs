//! Every kind as a line and as an object, and many moves as one line.

use steer_common::abi::{MoveReason, NO_TUNNEL};

use super::super::json_line;
use super::*;
use crate::plan::encode_name;

const TIME: &str = "2026-02-03T14:05:00.123Z";

fn names() -> NameBook {
    let tunnels = [(0, "wg0"), (1, "wg1")];
    NameBook {
        tunnels: tunnels.map(|(id, name)| (id, name.into())).into(),
        groups: [(0, "default".into())].into(),
    }
}

fn key() -> FlowKey {
    let mut key = FlowKey::EMPTY;
    let v4 = |a, b, c, d| {
        std::net::Ipv4Addr::new(a, b, c, d)
            .to_ipv6_mapped()
            .octets()
    };
    key.low_addr = v4(10, 1, 0, 2);
    key.high_addr = v4(10, 2, 0, 2);
    (key.low_port, key.high_port, key.protocol) = (40_000, 53, 17);
    key
}

fn report(happening: &Happening) -> EventReport {
    EventReport::new(happening, Some(TIME.into()), &names(), |key| {
        moved_flow(key, Endpoint::Low)
    })
}

fn line(happening: &Happening) -> String {
    let line = report(happening).line();
    let rest = line.strip_prefix(TIME).unwrap_or(&line);
    rest.trim_matches([' ', '\n']).to_owned()
}

fn moved(at_ns: u64, to: u32) -> Move {
    Move {
        seq: 1,
        at_ns,
        key: key(),
        from: 0,
        to,
        group: 0,
        reason: MoveReason::TunnelDown,
    }
}

#[test]
fn lines_of_events() {
    let event = |kind, cause, before, after| Event {
        group: 0,
        tunnel: 1,
        before,
        after,
        name: encode_name("wg1"),
        ..Event::new(kind, cause)
    };
    let daemon = Event::new(EventKind::Started, Cause::Daemon);
    let addr = [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let told = [
        daemon,
        Event::new(EventKind::Reloaded, Cause::Config),
        event(
            EventKind::Attached,
            Cause::Operator,
            0,
            HookKind::Learn as u32,
        ),
        event(
            EventKind::Detached,
            Cause::Operator,
            HookKind::Egress as u32,
            0,
        ),
        Event {
            reason: HealthReason::NotAnswering,
            ..event(EventKind::HealthChanged, Cause::Daemon, 1, 3)
        },
        event(EventKind::AdminChanged, Cause::Operator, 1, 2),
        event(EventKind::WeightChanged, Cause::Auto, 1_000, 800),
        event(EventKind::TierChanged, Cause::Config, 0, 1),
        event(EventKind::DeviceChanged, Cause::Daemon, 7, 0),
        event(EventKind::TunnelAdded, Cause::Operator, 0, 3),
        event(EventKind::TunnelRemoved, Cause::Unset, 0, 0),
        Event {
            name: addr,
            ..event(EventKind::PrefixAdded, Cause::Operator, 0, 64)
        },
        Event {
            name: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 2, 0, 0],
            ..event(EventKind::PrefixRemoved, Cause::Operator, 16, 0)
        },
        Event {
            count: 120,
            ..event(EventKind::RoutesChanged, Cause::Routes, 5, 125)
        },
        Event {
            count: 41,
            ..event(EventKind::RoutesChanged, Cause::Config, 1, 40)
        },
        Event {
            count: 40,
            tunnel: NO_TUNNEL.into(),
            name: encode_name(""),
            ..event(EventKind::Rebalanced, Cause::Operator, 60, 20)
        },
        Event {
            count: 5,
            ..event(EventKind::DrainDone, Cause::Operator, 7, 2)
        },
        // A number that a later steer has a name for.
        event(EventKind::AdminChanged, Cause::Operator, 1, 77),
    ]
    .map(|event| line(&Happening::Event(event)));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn lines_of_moves() {
    let told = [
        Happening::Move(moved(5, 1)),
        Happening::Move(moved(5, 9)),
        Happening::Moves(moved(5, 1), 512),
        Happening::Lost(12),
    ]
    .map(|happening| line(&happening));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn objects() {
    let weight = Event {
        at_ns: 7,
        tunnel: 1,
        group: 0,
        before: 1,
        after: 3,
        ..Event::new(EventKind::WeightChanged, Cause::Operator)
    };
    let told = [
        Happening::Event(weight),
        Happening::Move(moved(5, 1)),
        Happening::Lost(12),
    ]
    .map(|happening| json_line(&report(&happening)).expect("JSON"));
    insta::assert_snapshot!(told.concat());
}

#[test]
fn many_moves_are_one_line() {
    let few: Vec<_> = (0..10).map(|at| Happening::Move(moved(at, 1))).collect();
    assert_eq!(collapse(few.clone()), few);
    // Two kinds, taking turns, with an event between.
    let event = Happening::Event(Event {
        at_ns: 5,
        ..Event::new(EventKind::Started, Cause::Daemon)
    });
    let mut many: Vec<_> = (0..40)
        .map(|at| Happening::Move(moved(at, 1 + u32::from(at % 4 == 3))))
        .collect();
    many.insert(20, event);
    let told = collapse(many.clone());
    assert_eq!(
        told[..3],
        [
            Happening::Moves(moved(0, 1), 30),
            Happening::Move(moved(3, 2)),
            Happening::Move(moved(7, 2)),
        ]
    );
    assert_eq!(told.len(), 1 + 10 + 1);
    assert!(told.contains(&event));
    // With a pause of more than a second, it is another happening.
    let later = (0..11).map(|n| Happening::Move(moved(MOVES_APART_NS + 100 + n, 1)));
    let told = collapse(
        (0..11)
            .map(|at| Happening::Move(moved(at, 1)))
            .chain(later)
            .collect(),
    );
    let counts: Vec<_> = told
        .iter()
        .map(|happening| match happening {
            Happening::Moves(first, count) => (first.at_ns, *count),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [(0, 11), (MOVES_APART_NS + 100, 11)]);
}

#[test]
fn a_flow_without_ports() {
    let mut key = key();
    key.protocol = 47;
    let flow = moved_flow(&key, Endpoint::High);
    assert_eq!(flow.text(), "gre 10.2.0.2 > 10.1.0.2");
    assert_eq!((flow.src_port, flow.dst_port), (None, None));
}
