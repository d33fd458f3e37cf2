//! The program tier: groups made from routes, and flows that move.

use std::collections::BTreeMap;

use steer_common::abi::{
    Admin, FlowEntry, FlowKey, GroupId, Health, MOVE_RECORDS_MAX, MOVES_MAX, Move, MoveReason,
    MoveRecord, Origin, Placer, TunnelId,
};
use steer_tests::{
    packets::{
        build::{self, Arrival},
        programs::{Seen, parsed},
        recipe::{Hook, Recipe},
        world::{self, GROUP, MORE_OF_1, ONLY_0, ONLY_1},
    },
    program::{
        compare::{Pair, now_ns},
        moves::packet_of,
        netns,
    },
};

/// Why a test cannot run here is printed, and counts as skipped.
macro_rules! needs_root {
    ($name:literal) => {
        if let Some(reason) = netns::missing() {
            println!("SKIP {}: {reason}", $name);
            return;
        }
    };
}

/// `10.2.0.0/16` in the world.
const PREFIX: usize = 0;
/// A group of another home, which has tunnel 5.
const OTHER_HOME: GroupId = 6;
/// What the program returns of records that it does not take.
const REFUSED: u32 = u32::MAX;
/// What an entry is never on.
const NOWHERE: u32 = 200;

/// A packet of flow number `flow` at a hook; at a tunnel's hooks on device `device`.
fn packet(hook: Hook, device: TunnelId, flow: u16) -> Arrival {
    let mut recipe = Recipe {
        hook: Some(hook),
        device: (!matches!(hook, Hook::Lan | Hook::Mark)).then_some(device),
        src_port: 1_000 + flow,
        ..Recipe::default()
    };
    if !hook.is_out() {
        (recipe.src_port, recipe.dst_port) = (recipe.dst_port, recipe.src_port);
    }
    build::arrival(&recipe)
}

fn key(flow: u16) -> FlowKey {
    let frame = packet(Hook::Lan, 0, flow).bytes;
    let parsed = parsed(steer_common::parse::Layer::Ethernet, &frame);
    parsed.expect("an ordinary packet").key
}

fn entry(pair: &Pair, flow: u16) -> Option<FlowEntry> {
    pair.kernel.flow(&key(flow)).expect("the map")
}

/// Sends a packet of each flow from the LAN: their tunnels.
fn round(pair: &mut Pair, flows: u16) -> Vec<u32> {
    let mut tunnel = |flow| {
        pair.send(&packet(Hook::Lan, 0, flow)).expect("alike");
        entry(pair, flow).expect("an entry").tunnel.into()
    };
    (0..flows).map(&mut tunnel).collect()
}

/// The prefix belongs to another group from now on.
fn route(pair: &mut Pair, group: GroupId) {
    pair.set_prefix(PREFIX, group).expect("the prefix");
    pair.bump_epoch().expect("the settings");
}

fn new_flows(pair: &Pair) -> u64 {
    let of = |id| pair.kernel.tunnel_counters(id).expect("counters").new_flows;
    (0..6).map(of).sum()
}

fn moves(pair: &Pair) -> Vec<Move> {
    pair.compare_moves().expect("alike");
    pair.kernel.moves().expect("the log")
}

#[test]
fn a_flow_stays_in_another_group_that_has_its_tunnel() {
    needs_root!("a_flow_stays_in_another_group_that_has_its_tunnel");
    let mut pair = Pair::new(256).expect("the world");
    let before = round(&mut pair, 100);
    route(&mut pair, MORE_OF_1);
    assert_eq!(round(&mut pair, 100), before);
    let entry = entry(&pair, 0).expect("an entry");
    assert_eq!(
        (entry.group, entry.home, entry.epoch),
        (MORE_OF_1.into(), GROUP.into(), 2)
    );
    assert_eq!((entry.origin, entry.tx_packets), (Origin::Hashed, 2));
    assert_eq!(new_flows(&pair), 100);
    assert_eq!(moves(&pair), []);
    // New ones go by the new group's weights.
    let after = round(&mut pair, 200);
    let on_1 = |tunnels: &[u32]| tunnels.iter().filter(|id| **id == 1).count();
    let (old, new) = (on_1(&before), on_1(&after[100..]));
    assert!(new > old + 10, "{old} of 100, then {new}");
}

#[test]
fn flows_leave_a_tunnel_that_no_route_leads_by() {
    needs_root!("flows_leave_a_tunnel_that_no_route_leads_by");
    let mut pair = Pair::new(256).expect("the world");
    let before = round(&mut pair, 100);
    route(&mut pair, ONLY_1);
    assert!(round(&mut pair, 100).iter().all(|id| *id == 1));
    let moved = before.iter().filter(|id| **id == 0).count();
    assert!((20..80).contains(&moved), "{moved} of 100 had to move");
    let log = moves(&pair);
    assert_eq!(log.len(), moved);
    for (flow, old) in (0..).zip(&before) {
        let entry = entry(&pair, flow).expect("an entry");
        let origin = if *old == 0 {
            Origin::Moved
        } else {
            Origin::Hashed
        };
        assert_eq!((entry.origin, entry.tx_packets), (origin, 2));
        assert_eq!((entry.group, entry.epoch), (ONLY_1.into(), 2));
    }
    let of = |id| pair.kernel.tunnel_counters(id).expect("counters");
    let moved = moved as u64;
    assert_eq!((of(0).moved_out, of(0).moved_in), (moved, 0));
    assert_eq!((of(1).moved_out, of(1).moved_in), (0, moved));
    assert_eq!(new_flows(&pair), 100, "none is new");
    // The route is back: nothing moves.
    route(&mut pair, GROUP);
    assert!(round(&mut pair, 100).iter().all(|id| *id == 1));
    assert_eq!(moves(&pair).len(), log.len());
}

#[test]
fn another_home_places_flows_anew() {
    needs_root!("another_home_places_flows_anew");
    let mut pair = Pair::new(256).expect("the world");
    round(&mut pair, 20);
    route(&mut pair, OTHER_HOME);
    assert!(round(&mut pair, 20).iter().all(|id| *id == 5));
    assert_eq!(new_flows(&pair), 40);
    assert_eq!(moves(&pair), []);
    let entry = entry(&pair, 0).expect("an entry");
    assert_eq!((entry.tx_packets, entry.home), (1, OTHER_HOME.into()));
}

/// The kernel chose a tunnel of the home; the derived group says which it may be.
#[test]
fn egress_leads_to_the_tunnels_of_the_group() {
    needs_root!("egress_leads_to_the_tunnels_of_the_group");
    let mut pair = Pair::new(256).expect("the world");
    for (group, tunnel) in [(ONLY_1, 1), (ONLY_0, 0)] {
        route(&mut pair, group);
        for device in [0, 1] {
            let ran = pair.send(&packet(Hook::Egress, device, 0)).expect("alike");
            assert!(matches!(ran.seen, Seen::Sent(exit) if exit.tunnel == tunnel));
        }
    }
    route(&mut pair, OTHER_HOME);
    let ran = pair.send(&packet(Hook::Egress, 0, 0)).expect("alike");
    assert!(matches!(ran.seen, Seen::Passed(_)), "of another home");
}

#[test]
fn what_comes_by_no_route_is_not_learned() {
    needs_root!("what_comes_by_no_route_is_not_learned");
    let mut pair = Pair::new(256).expect("the world");
    route(&mut pair, ONLY_1);
    for (flow, hook) in [(0, Hook::Tunnel), (1, Hook::Return)] {
        pair.send(&packet(hook, 0, flow)).expect("alike");
        assert_eq!(entry(&pair, flow), None);
        // By the route it is, and then it does not follow to where none leads.
        pair.send(&packet(hook, 1, flow)).expect("alike");
        pair.send(&packet(hook, 0, flow)).expect("alike");
        let learned = entry(&pair, flow).expect("an entry");
        assert_eq!((learned.tunnel, learned.rx_packets), (1, 2));
        assert_eq!(learned.placer, Placer::Far);
    }
    assert_eq!(
        pair.kernel.tunnel_counters(0).expect("counters").rx_packets,
        4
    );
    // A route more: now it follows.
    route(&mut pair, GROUP);
    pair.send(&packet(Hook::Tunnel, 0, 0)).expect("alike");
    assert_eq!(entry(&pair, 0).expect("an entry").tunnel, 0);
    // Its route goes: packets out of that tunnel do not keep it there.
    route(&mut pair, ONLY_1);
    pair.send(&packet(Hook::Tunnel, 0, 0)).expect("alike");
    pair.send(&packet(Hook::Lan, 0, 0)).expect("alike");
    pair.send(&packet(Hook::Tunnel, 0, 0)).expect("alike");
    assert_eq!(entry(&pair, 0).expect("an entry").tunnel, 1);
    let reasons: Vec<_> = moves(&pair).iter().map(|moved| moved.reason).collect();
    assert_eq!(reasons, [MoveReason::FarEnd, MoveReason::RouteGone]);
}

#[test]
fn the_log_says_what_moved_and_why() {
    needs_root!("the_log_says_what_moved_and_why");
    let mut pair = Pair::new(256).expect("the world");
    let ifindex = pair.devices.tunnels[0];
    for (element, reason) in [
        (
            world::tunnel(ifindex, Admin::Active, Health::Down),
            MoveReason::TunnelDown,
        ),
        (
            world::tunnel(ifindex, Admin::Drain, Health::Down),
            MoveReason::TunnelDown,
        ),
        (
            world::tunnel(ifindex, Admin::Disabled, Health::Down),
            MoveReason::TunnelDisabled,
        ),
        (
            world::tunnel(0, Admin::Active, Health::Down),
            MoveReason::TunnelGone,
        ),
        (
            world::tunnel(world::GONE, Admin::Active, Health::Up),
            MoveReason::TunnelGone,
        ),
        (
            world::tunnel(ifindex, Admin::Absent, Health::Up),
            MoveReason::TunnelGone,
        ),
    ] {
        pair.restart(|_| ()).expect("a new world");
        let started_ns = now_ns().expect("the clock");
        let before = round(&mut pair, 50);
        pair.set_tunnel(0, element).expect("set");
        round(&mut pair, 50);
        let moved: Vec<u16> = (0..50)
            .filter(|flow| before[usize::from(*flow)] == 0)
            .collect();
        let log = moves(&pair);
        assert_eq!(log.len(), moved.len());
        for ((line, flow), seq) in log.iter().zip(moved).zip(1..) {
            assert_eq!((line.seq, line.key), (seq, key(flow)));
            assert_eq!((line.from, line.to, line.group), (0, 1, GROUP.into()));
            assert_eq!(line.reason, reason);
            // The coarse clock lags by a tick.
            assert!(line.at_ns + 20_000_000 >= started_ns);
            assert!(line.at_ns <= now_ns().expect("the clock"));
        }
    }
}

#[test]
fn the_log_keeps_the_latest_moves() {
    needs_root!("the_log_keeps_the_latest_moves");
    let mut pair = Pair::new(256).expect("the world");
    round(&mut pair, 100);
    let rounds = MOVES_MAX / 100 + 3;
    for turn in 0..rounds {
        route(&mut pair, if turn % 2 == 0 { ONLY_0 } else { ONLY_1 });
        round(&mut pair, 100);
    }
    let most = pair.kernel.counters().expect("counters").moves;
    assert!(most > MOVES_MAX as u64 + 100, "{most} moves");
    let log = moves(&pair);
    assert_eq!(log.len(), MOVES_MAX);
    assert_eq!(log.last().map(|line| line.seq), Some(most));
    assert!(log.windows(2).all(|two| two[0].seq + 1 == two[1].seq));
    assert!(log.windows(2).all(|two| two[0].at_ns <= two[1].at_ns));
}

fn record(flow: u16, from: u32, to: u32) -> MoveRecord {
    MoveRecord {
        key: key(flow),
        from,
        to,
    }
}

/// Each flow that may not move, for one reason each, and one that may.
#[test]
fn userspace_moves_just_the_flows_that_may_move() {
    needs_root!("userspace_moves_just_the_flows_that_may_move");
    let mut pair = Pair::new(256).expect("the world");
    let tunnels: BTreeMap<u16, u32> = (0..).zip(round(&mut pair, 60)).collect();
    let on = |tunnel: u32| -> Vec<u16> {
        let flows = tunnels.iter().filter(move |(_, on)| **on == tunnel);
        flows.map(|(flow, _)| *flow).collect()
    };
    let (on_0, on_1) = (on(0), on(1));
    // The far end's, and the tunnel's own.
    pair.send(&packet(Hook::Tunnel, 0, 100)).expect("alike");
    let own = Recipe {
        src: Some("10.2.8.0".parse().expect("an address")),
        hook: Some(Hook::Egress),
        device: Some(0),
        ..Recipe::default()
    };
    let ran = pair.send(&build::arrival(&own)).expect("alike");
    let pinned = MoveRecord {
        key: ran.parsed.expect("an ordinary packet").key,
        from: 0,
        to: 1,
    };
    // Over: its last packet was long ago.
    let now = now_ns().expect("the clock");
    let idle_ns = now / 2;
    pair.set_settings(|settings| settings.idle_tcp_ns = idle_ns)
        .expect("the settings");
    pair.set_last_seen(&key(on_0[1]), now - idle_ns - 1_000_000_000)
        .expect("the entry");
    let refused = [
        ("nobody's", record(999, 0, 1)),
        ("not there", record(on_0[0], 1, 0)),
        ("not there, and nowhere", record(on_0[0], NOWHERE, 1)),
        ("not away", record(on_0[0], 0, 0)),
        ("to a tunnel of another group", record(on_0[0], 0, 5)),
        ("to no tunnel", record(on_0[0], 0, 255)),
        ("to no number of a tunnel", record(on_0[0], 0, 257)),
        ("the far end leads", record(100, 0, 1)),
        ("its source is the tunnel's own address", pinned),
        ("it is over", record(on_0[1], 0, 1)),
    ];
    for (why, record) in refused {
        assert_eq!(pair.rebalance(&[record]).expect("alike"), 0, "{why}");
    }
    for (admin, health) in [
        (Admin::Drain, Health::Up),
        (Admin::Disabled, Health::Up),
        (Admin::Active, Health::Down),
    ] {
        let tunnel = world::tunnel(pair.devices.tunnels[1], admin, health);
        pair.set_tunnel(1, tunnel).expect("set");
        let moved = pair.rebalance(&[record(on_0[0], 0, 1)]).expect("alike");
        assert_eq!(moved, 0, "{admin:?} {health:?}");
    }
    let tunnel = world::tunnel(pair.devices.tunnels[1], Admin::Active, Health::Up);
    pair.set_tunnel(1, tunnel).expect("set");
    // Its group lost the tunnel, and it has not sent a packet since.
    route(&mut pair, ONLY_0);
    assert_eq!(pair.rebalance(&[record(on_0[0], 0, 1)]).expect("alike"), 0);
    route(&mut pair, OTHER_HOME);
    assert_eq!(pair.rebalance(&[record(on_0[0], 0, 5)]).expect("alike"), 0);
    route(&mut pair, GROUP);
    assert_eq!(moves(&pair), []);
    pair.compare().expect("nothing has changed");

    // One record twice moves once, and those between do not disturb.
    let wanted = [
        record(on_0[0], 0, 1),
        record(on_0[0], 0, 1),
        record(999, 0, 1),
        record(on_1[0], 1, 0),
    ];
    assert_eq!(pair.rebalance(&wanted).expect("alike"), 2);
    pair.compare().expect("alike");
    let log = moves(&pair);
    let lines: Vec<_> = log.iter().map(|m| (m.key, m.from, m.to)).collect();
    assert_eq!(lines, [(key(on_0[0]), 0, 1), (key(on_1[0]), 1, 0)]);
    assert!(log.iter().all(|m| m.reason == MoveReason::Rebalanced));
    let of = |id| pair.kernel.tunnel_counters(id).expect("counters");
    assert_eq!((of(0).moved_out, of(0).moved_in), (1, 1));
    assert_eq!((of(1).moved_out, of(1).moved_in), (1, 1));
    let moved = entry(&pair, on_0[0]).expect("an entry");
    assert_eq!((moved.tunnel, moved.origin), (1, Origin::Moved));
    pair.send(&packet(Hook::Lan, 0, on_0[0])).expect("alike");
    let later = entry(&pair, on_0[0]).expect("an entry");
    assert_eq!((later.tunnel, later.tx_packets), (1, 2), "and it stays");
}

#[test]
fn the_program_takes_whole_records_and_not_too_many() {
    needs_root!("the_program_takes_whole_records_and_not_too_many");
    let mut pair = Pair::new(256).expect("the world");
    let tunnels = round(&mut pair, 40);
    let records: Vec<_> = (0..)
        .zip(&tunnels)
        .map(|(flow, from)| record(flow, *from, 1 - from))
        .collect();
    let run = |pair: &Pair, packet: &[u8]| pair.kernel.run_move(packet).expect("a run");
    let too_many = packet_of(&records[..=MOVE_RECORDS_MAX]);
    assert_eq!(run(&pair, &too_many), REFUSED);
    let most = packet_of(&records[..MOVE_RECORDS_MAX]);
    assert_eq!(run(&pair, &most[..most.len() - 1]), REFUSED);
    assert_eq!(run(&pair, &most[..15]), REFUSED);
    pair.compare().expect("nothing has changed");
    let moved = pair.rebalance(&records[..MOVE_RECORDS_MAX]);
    assert_eq!(moved.expect("alike"), 32);
    pair.compare().expect("alike");
    assert_eq!(run(&pair, &most), 0, "they are not there any more");
}
