//! Fewest, exact, idle first, never what must stay: by example and for any table.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use steer_common::abi::{Endpoint, Phase};

use super::*;

/// A flow of a table.
#[derive(Clone, Copy, Debug)]
struct Flow {
    number: u16,
    tunnel: TunnelId,
    last_seen_ns: u64,
    placer: Placer,
    origin: Origin,
}

fn near(number: u16, tunnel: TunnelId, last_seen_ns: u64) -> Flow {
    Flow {
        number,
        tunnel,
        last_seen_ns,
        placer: Placer::Near,
        origin: Origin::Hashed,
    }
}

const GROUP: GroupId = 3;

fn key(number: u16) -> FlowKey {
    FlowKey {
        low_addr: [0; 16],
        high_addr: [1; 16],
        low_port: number,
        high_port: 443,
        protocol: 6,
    }
}

fn entry(flow: Flow) -> FlowEntry {
    FlowEntry {
        created_ns: 0,
        last_seen_ns: flow.last_seen_ns,
        tx_packets: 0,
        rx_packets: 0,
        tx_bytes: 0,
        rx_bytes: 0,
        epoch: 0,
        tunnel: flow.tunnel.into(),
        group: GROUP.into(),
        home: 2,
        origin: flow.origin,
        local: Endpoint::Low,
        placer: flow.placer,
        phase: Phase::Open,
    }
}

fn sharer(id: TunnelId, weight: u64) -> Sharer {
    Sharer {
        id,
        weight,
        keeps: false,
    }
}

/// Plans for a table that holds still.
fn plan(sharers: &[Sharer], flows: &[Flow]) -> (Vec<Target>, Vec<FlowMove>) {
    let mut census = Census::default();
    for flow in flows {
        census.add(&entry(*flow), true);
    }
    let targets = targets(GROUP, sharers, &census);
    let mut chooser = Chooser::new(targets.clone());
    for flow in flows {
        chooser.visit(&key(flow.number), &entry(*flow));
    }
    (targets, chooser.moves())
}

/// The table after some moves.
fn after(flows: &[Flow], moves: &[FlowMove]) -> Vec<Flow> {
    let to: BTreeMap<u16, TunnelId> = moves.iter().map(|m| (m.key.low_port, m.to)).collect();
    flows
        .iter()
        .map(|flow| Flow {
            tunnel: to.get(&flow.number).copied().unwrap_or(flow.tunnel),
            ..*flow
        })
        .collect()
}

fn wanted(sharers: &[Sharer], flows: &[Flow]) -> Vec<u64> {
    let (targets, _) = plan(sharers, flows);
    targets.iter().map(|target| target.wanted).collect()
}

fn some(tunnel: TunnelId, numbers: std::ops::Range<u16>) -> impl Iterator<Item = Flow> {
    numbers.map(move |number| near(number, tunnel, u64::from(number)))
}

#[test]
fn the_longest_idle_go_to_whom_lacks_most() {
    let flows: Vec<_> = some(0, 0..10).collect();
    let (targets, moves) = plan(&[sharer(0, 2), sharer(1, 1), sharer(2, 2)], &flows);
    let counts: Vec<_> = targets.iter().map(|t| (t.flows, t.wanted)).collect();
    assert_eq!(counts, [(10, 4), (0, 2), (0, 4)]);
    let went: Vec<_> = moves.iter().map(|m| (m.key.low_port, m.to)).collect();
    assert_eq!(went, [(0, 2), (1, 2), (2, 1), (3, 2), (4, 1), (5, 2)]);
}

#[test]
fn an_odd_flow_stays_where_it_is() {
    let flows: Vec<_> = some(1, 0..2).chain(some(0, 2..3)).collect();
    let (_, moves) = plan(&[sharer(0, 1), sharer(1, 1)], &flows);
    assert_eq!(moves, []);
}

#[test]
fn weight_0_gives_all_it_may() {
    let mut flows: Vec<_> = some(0, 0..4).collect();
    flows[1].placer = Placer::Far;
    flows[2].origin = Origin::Pinned;
    assert_eq!(wanted(&[sharer(0, 0), sharer(1, 1)], &flows), [2, 2]);
}

#[test]
fn a_tunnel_full_of_the_far_ends_flows() {
    // Of 12 flows wg0 would get 4, but keeps 8; wg1 and wg2 share the other 4.
    let mut flows: Vec<_> = some(0, 0..9).chain(some(1, 9..12)).collect();
    for flow in &mut flows[..8] {
        flow.placer = Placer::Far;
    }
    let three = [sharer(0, 1), sharer(1, 1), sharer(2, 1)];
    assert_eq!(wanted(&three, &flows), [8, 2, 2]);
}

#[test]
fn who_drains_keeps_its_flows() {
    let flows: Vec<_> = some(0, 0..5).chain(some(1, 5..9)).collect();
    let mut three = [sharer(0, 0), sharer(1, 1), sharer(2, 1)];
    three[0].keeps = true;
    assert_eq!(wanted(&three, &flows), [5, 2, 2]);
    three[0].keeps = false;
    assert_eq!(wanted(&three, &flows), [0, 5, 4]);
}

#[test]
fn the_end_of_a_drain_moves_nothing_else() {
    // wg0 drained; wg1 has more than its share already, and keeps it.
    let flows = some(0, 0..6).chain(some(1, 6..14)).chain(some(2, 14..15));
    let mut census = Census::default();
    for flow in flows {
        census.add(&entry(flow), flow.tunnel == 0);
    }
    let three = [sharer(0, 0), sharer(1, 1), sharer(2, 1)];
    let targets = targets(GROUP, &three, &census);
    let wanted: Vec<_> = targets.iter().map(|target| target.wanted).collect();
    assert_eq!(wanted, [0, 8, 7]);
}

#[test]
fn without_a_tunnel_for_new_flows_all_stay() {
    let flows: Vec<_> = some(0, 0..5).collect();
    assert_eq!(wanted(&[sharer(0, 0), sharer(1, 0)], &flows), [5, 0]);
    assert_eq!(wanted(&[], &flows), [0; 0]);
}

#[test]
fn a_home_group_has_the_flows_of_what_is_derived_from_it() {
    let mut census = Census::default();
    for group in [GROUP.into(), 77] {
        let flow = FlowEntry {
            group,
            ..entry(near(1, 4, 0))
        };
        census.add(&flow, true);
    }
    assert_eq!((census.of_home(2, 4), census.of(GROUP, 4).total), (2, 1));
    assert_eq!((census.of_home(GROUP, 4), census.of(2, 4).total), (0, 0));
}

#[test]
fn of_another_group_or_tunnel_none_is_touched() {
    let stranger = near(7, 9, 0);
    let (_, moves) = plan(&[sharer(0, 1), sharer(1, 1)], &[stranger]);
    assert_eq!(moves, []);
    let mut chooser = Chooser::new(vec![Target {
        group: GROUP + 1,
        tunnel: 9,
        flows: 1,
        wanted: 0,
    }]);
    chooser.visit(&key(7), &entry(stranger));
    assert_eq!(chooser.moves(), []);
}

fn any_table() -> impl Strategy<Value = (Vec<Sharer>, Vec<Flow>)> {
    let sharer = (0..4_u64, prop::bool::weighted(0.15));
    let sharers = prop::collection::vec(sharer, 1..7).prop_map(|all| {
        (0..)
            .zip(all)
            .map(|(id, (weight, keeps))| Sharer {
                id,
                weight: if keeps { 0 } else { weight * weight },
                keeps,
            })
            .collect::<Vec<_>>()
    });
    let flow = (0..8_u8, 0..50_u64, 0..10_u8);
    let flows = prop::collection::vec(flow, 0..200).prop_map(|all| {
        (0..)
            .zip(all)
            .map(|(number, (tunnel, last_seen_ns, way))| {
                let mut flow = near(number, tunnel, last_seen_ns);
                match way {
                    0 => flow.placer = Placer::Far,
                    1 => flow.origin = Origin::Pinned,
                    _ => {}
                }
                flow
            })
            .collect::<Vec<_>>()
    });
    (sharers, flows)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each is moved once, from a surplus to a deficit, and as many as the surpluses are.
    #[test]
    fn as_many_as_the_surpluses((sharers, flows) in any_table()) {
        let (targets, moves) = plan(&sharers, &flows);
        let surplus: u64 = targets.iter().map(Target::surplus).sum();
        prop_assert_eq!(moves.len() as u64, surplus);
        prop_assert_eq!(targets.iter().map(Target::deficit).sum::<u64>(), surplus);
        let keys: BTreeSet<_> = moves.iter().map(|m| m.key.low_port).collect();
        prop_assert_eq!(keys.len(), moves.len());
        for m in &moves {
            let flow = flows[usize::from(m.key.low_port)];
            prop_assert!(is_movable(&entry(flow)));
            prop_assert_eq!(flow.tunnel, m.from);
            let of = |id| targets.iter().find(|t| t.tunnel == id).expect("a member");
            prop_assert!(of(m.from).surplus() > 0 && of(m.to).deficit() > 0);
            prop_assert!(sharers.iter().any(|s| s.id == m.to && s.weight > 0));
        }
    }

    /// Nobody is further from the exact share than one flow, but for those that must keep more, and those
    /// that share what these leave.
    #[test]
    fn shares_are_within_one_flow((sharers, flows) in any_table()) {
        let (targets, moves) = plan(&sharers, &flows);
        let after = after(&flows, &moves);
        for target in &targets {
            let now = after.iter().filter(|flow| flow.tunnel == target.tunnel).count() as u64;
            prop_assert_eq!(now, target.wanted);
        }
        // Of those that are not full, any two with a weight agree on what a weight of 1 is worth.
        let fixed = |id| flows.iter().filter(|f| f.tunnel == id && !is_movable(&entry(**f))).count() as u64;
        let open: Vec<_> = sharers.iter().zip(&targets)
            .filter(|(s, t)| s.weight > 0 && t.wanted > fixed(s.id))
            .collect();
        for ((a, of_a), (b, of_b)) in open.iter().flat_map(|a| open.iter().map(move |b| (*a, *b))) {
            let at_least = (of_a.wanted - 1) * b.weight;
            let at_most = (of_b.wanted + 1) * a.weight;
            prop_assert!(at_least <= at_most, "{:?} {:?}", of_a, of_b);
        }
    }

    /// What has moved needs no second time, and planning twice gives the same.
    #[test]
    fn done_is_done((sharers, flows) in any_table()) {
        let (_, moves) = plan(&sharers, &flows);
        let mut backwards = flows.clone();
        backwards.reverse();
        prop_assert_eq!(&plan(&sharers, &backwards).1, &moves);
        prop_assert_eq!(plan(&sharers, &after(&flows, &moves)).1, vec![]);
    }

    /// Stopped anywhere and begun again, it moves no more than in one go.
    #[test]
    fn a_stop_costs_nothing((sharers, flows) in any_table(), part in 0..100_usize) {
        let (_, moves) = plan(&sharers, &flows);
        let done = moves.len() * part / 100;
        let halfway = after(&flows, &moves[..done]);
        let (_, rest) = plan(&sharers, &halfway);
        prop_assert_eq!(done + rest.len(), moves.len());
    }

    /// The longest idle of a tunnel leave it, in that order.
    #[test]
    fn the_longest_idle_first((sharers, flows) in any_table()) {
        let (_, moves) = plan(&sharers, &flows);
        let seen = |m: &FlowMove| flows[usize::from(m.key.low_port)].last_seen_ns;
        prop_assert!(moves.is_sorted_by_key(seen));
        let chosen: BTreeSet<_> = moves.iter().map(|m| m.key.low_port).collect();
        for m in &moves {
            let waited_longer = flows.iter().any(|flow| {
                flow.tunnel == m.from
                    && is_movable(&entry(*flow))
                    && !chosen.contains(&flow.number)
                    && flow.last_seen_ns < seen(m)
            });
            prop_assert!(!waited_longer);
        }
    }
}
