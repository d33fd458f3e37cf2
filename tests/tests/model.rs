//! The decision against a small reference model, and its promises one by one.

#[path = "model/races.rs"]
mod races;
#[path = "model/reference.rs"]
mod reference;

use std::collections::BTreeMap;

use proptest::prelude::*;
use reference::{By, Counted, Group, Packet, Reference, State, name};
use steer_common::{
    abi::{
        Admin, FlowKey, GroupId, Health, MoveReason, MoveRecord, Origin, PassReason, Placer,
        Tunnel, TunnelId,
    },
    moves, parse,
};
use steer_tests::packets::{
    build::{self, Arrival},
    host::HostTables,
    programs::{Seen, arrive, parsed},
    recipe::{Hook, Layer, Protocol, Recipe},
    world::{World, group, table, tunnel},
};

const DEVICES: [u32; 6] = [11, 12, 13, 14, 15, 16];
/// Tunnels of the model: those of group 0.
const TUNNELS: [TunnelId; 4] = [0, 1, 2, 3];
/// Groups of the model: home and members. The first two are homes, the others derived from the first.
const GROUPS: [(GroupId, &[TunnelId]); 5] = [
    (0, &TUNNELS),
    (1, &TUNNELS),
    (0, &[0, 1]),
    (0, &[2, 3]),
    (0, &[1, 2, 3]),
];
const SECOND_NS: u64 = 1_000_000_000;
const START_SECS: u64 = 1_000;

/// The decision and the model, side by side.
struct Both {
    tables: HostTables,
    model: Reference,
}

/// One packet of flow number `flow`, in one of its directions.
fn packet(hook: Hook, flow: u16, flags: &str) -> (Arrival, Packet) {
    // Flows of three kinds.
    let tcp = !flow.is_multiple_of(3);
    let mut recipe = Recipe {
        hook: Some(hook),
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        ip: if flow.is_multiple_of(2) { 4 } else { 6 },
        src_port: 1_000 + flow,
        flags: flags.into(),
        ..Recipe::default()
    };
    let layer = match hook.layer() {
        Layer::Ethernet => parse::Layer::Ethernet,
        Layer::Network => {
            (recipe.src_port, recipe.dst_port) = (recipe.dst_port, recipe.src_port);
            parse::Layer::Network
        }
    };
    let arrival = build::arrival(&recipe);
    let parsed = parsed(layer, &arrival.bytes).expect("an ordinary packet");
    let packet = Packet {
        key: parsed.key,
        tcp,
        opens: tcp && flags == "S",
        closes: tcp && (flags.contains('F') || flags.contains('R')),
    };
    (arrival, packet)
}

impl Both {
    fn new(room: usize) -> Self {
        let mut world = World::new(DEVICES);
        let groups = || (0..).zip(GROUPS);
        let weights = |members: &[TunnelId]| -> Vec<_> {
            members.iter().map(|&member| (member, 1)).collect()
        };
        world.groups = groups()
            .map(|(id, (home, members))| (id, group(home, members)))
            .collect();
        world.tables = groups()
            .map(|(id, (_, members))| (id, table(&weights(members))))
            .collect();
        let seed = world.settings.seed;
        let mut both = Self {
            tables: HostTables::new(&world, room),
            model: Reference {
                now_secs: START_SECS,
                tunnels: TUNNELS.map(|id| (id, State::Good)).into(),
                groups: groups()
                    .map(|(id, (home, members))| {
                        let group = Group {
                            home,
                            members: members.to_vec(),
                            table: table(&weights(members)),
                        };
                        (id, group)
                    })
                    .collect(),
                group: 0,
                seed,
                room,
                flows: BTreeMap::default(),
                full: 0,
                counted: BTreeMap::default(),
                log: Vec::new(),
            },
        };
        for id in TUNNELS {
            both.set(id, State::Good);
        }
        both
    }

    fn set(&mut self, id: TunnelId, state: State) {
        let number = usize::from(id);
        let ifindex = DEVICES[number];
        let element: Tunnel = match state {
            State::Good | State::Gone => tunnel(ifindex, Admin::Active, Health::Degraded),
            State::Draining => tunnel(ifindex, Admin::Drain, Health::Up),
            State::Out => tunnel(ifindex, Admin::Disabled, Health::Up),
            State::Down => tunnel(ifindex, Admin::Active, Health::Down),
        };
        self.tables.tunnels[number] = Some(element);
        if state == State::Gone {
            self.tables.devices.remove(&ifindex);
        } else {
            self.tables.devices.insert(ifindex, 1_420);
        }
        self.model.tunnels.insert(id, state);
    }

    fn weigh(&mut self, weights: [u32; 4]) {
        let members: Vec<_> = TUNNELS.into_iter().zip(weights).collect();
        self.tables.tables.insert(0, table(&members));
        let of_model = self.model.groups.get_mut(&0).expect("the first group");
        of_model.table = table(&members);
    }

    /// The prefixes of group 0 belong to another group from now on.
    fn route(&mut self, group: GroupId) {
        for (_, _, of) in self.tables.prefixes.iter_mut().take(2) {
            *of = group;
        }
        self.tables.settings.epoch += 1;
        self.model.group = group;
    }

    /// Userspace wants a flow moved; whether it is.
    fn rebalance(&mut self, flow: u16, from: TunnelId, to: TunnelId) -> bool {
        self.tables.now_ns = self.model.now_secs * SECOND_NS;
        let (_, packet) = packet(Hook::Lan, flow, "A");
        let record = MoveRecord {
            key: packet.key,
            from: from.into(),
            to: to.into(),
        };
        let moved = moves::rebalance(&self.tables, &record);
        assert_eq!(moved, self.model.rebalance(&packet, from, to));
        self.check(&packet.key);
        moved
    }

    fn wait(&mut self, secs: u64) {
        self.model.now_secs += secs;
    }

    /// A packet from the LAN, checked against the model: the tunnel it takes.
    fn lan(&mut self, flow: u16, flags: &str) -> Option<TunnelId> {
        self.tables.now_ns = self.model.now_secs * SECOND_NS;
        let (arrival, packet) = packet(Hook::Lan, flow, flags);
        let expected = self.model.lan(&packet);
        let found = match arrive(&self.tables, &arrival).seen {
            Seen::Sent(exit) => {
                assert_eq!(exit.ifindex, DEVICES[usize::from(exit.tunnel)]);
                Some(exit.tunnel)
            }
            Seen::Passed(PassReason::NoTunnel) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            found, expected,
            "{flags} packet of flow {flow} from the LAN"
        );
        self.check(&packet.key);
        found
    }

    /// A packet out of a tunnel, checked against the model.
    fn remote(&mut self, flow: u16, flags: &str, id: TunnelId) {
        self.tables.now_ns = self.model.now_secs * SECOND_NS;
        let (mut arrival, packet) = packet(Hook::Tunnel, flow, flags);
        arrival.device = id;
        self.model.remote(&packet, id);
        arrive(&self.tables, &arrival);
        self.check(&packet.key);
    }

    fn check(&self, key: &FlowKey) {
        let entry = self.tables.entry(key);
        let flow = self.model.flows.get(&name(key));
        assert_eq!(entry.is_some(), flow.is_some());
        if let (Some(entry), Some(flow)) = (entry, flow) {
            assert_eq!(entry.tunnel, u16::from(flow.tunnel));
            let by = match entry.origin {
                Origin::Hashed => By::Hash,
                Origin::Learned => By::Learning,
                Origin::Moved => By::Moving,
                other => panic!("{other:?}"),
            };
            assert_eq!(by, flow.by);
            assert_eq!(entry.placer == Placer::Far, flow.far_leads);
            assert_eq!(entry.home, u32::from(flow.home));
        }
        let mut full = 0;
        for id in TUNNELS {
            let found = self.tables.tunnel_counters(id);
            let counted = |what| self.model.counted.get(&what).copied().unwrap_or(0);
            assert_eq!(found.new_flows, counted(Counted::New(id)), "new on {id}");
            assert_eq!(found.moved_in, counted(Counted::In(id)), "to {id}");
            assert_eq!(found.moved_out, counted(Counted::Out(id)), "from {id}");
            full += found.table_full;
        }
        assert_eq!(full, self.model.full);
        self.check_log();
    }

    fn check_log(&self) {
        let found = self.tables.moves();
        assert_eq!(found.len(), self.model.log.len());
        let Some((found, (key, from, to, group, why))) = found.last().zip(self.model.log.last())
        else {
            return;
        };
        assert_eq!(found.seq, self.model.log.len() as u64);
        assert_eq!(name(&found.key), *key);
        assert_eq!((found.from, found.to), ((*from).into(), (*to).into()));
        assert_eq!((found.group, found.reason), ((*group).into(), *why));
        assert!(found.at_ns <= self.tables.now_ns);
    }
}

#[derive(Clone, Debug)]
enum Event {
    Lan(u16, &'static str),
    Remote(u16, &'static str, TunnelId),
    Set(TunnelId, State),
    Weigh([u32; 4]),
    Wait(u64),
    Epoch,
    Route(GroupId),
    Rebalance(u16, TunnelId, TunnelId),
}

fn event() -> impl Strategy<Value = Event> {
    let flow = 0..12_u16;
    let flags = prop::sample::select(vec!["S", "A", "A", "A", "FA", "R"]);
    let id = prop::sample::select(TUNNELS.to_vec());
    let state = prop::sample::select(vec![
        State::Good,
        State::Good,
        State::Draining,
        State::Out,
        State::Down,
        State::Gone,
    ]);
    let secs = prop::sample::select(vec![1, 29, 30, 31, 299, 301, 7_439, 7_441]);
    let weight = || prop::sample::select(vec![0_u32, 1, 1, 5]);
    prop_oneof![
        10 => (flow.clone(), flags.clone()).prop_map(|(flow, flags)| Event::Lan(flow, flags)),
        6 => (flow.clone(), flags, id.clone()).prop_map(|(flow, flags, id)| Event::Remote(flow, flags, id)),
        4 => (id.clone(), state).prop_map(|(id, state)| Event::Set(id, state)),
        1 => [weight(), weight(), weight(), weight()].prop_map(Event::Weigh),
        3 => secs.prop_map(Event::Wait),
        1 => Just(Event::Epoch),
        2 => prop::sample::select(vec![0, 1, 2, 3, 4]).prop_map(Event::Route),
        3 => (flow, id.clone(), id).prop_map(|(flow, from, to)| Event::Rebalance(flow, from, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn decides_like_the_model(
        room in prop::sample::select(vec![3_usize, 100]),
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut both = Both::new(room);
        for event in events {
            match event {
                Event::Lan(flow, flags) => {
                    both.lan(flow, flags);
                }
                Event::Remote(flow, flags, id) => both.remote(flow, flags, id),
                Event::Set(id, state) => both.set(id, state),
                Event::Weigh(weights) => both.weigh(weights),
                Event::Wait(secs) => both.wait(secs),
                Event::Epoch => both.tables.settings.epoch += 1,
                Event::Route(group) => both.route(group),
                Event::Rebalance(flow, from, to) => {
                    both.rebalance(flow, from, to);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        start in prop::sample::select(vec![&[][..], &[0x45, 0, 0, 60], &[0x60, 0, 0, 0]]),
    ) {
        let mut bytes = bytes;
        let replaced = start.len().min(bytes.len());
        bytes[..replaced].copy_from_slice(&start[..replaced]);
        let _ = parsed(parse::Layer::Network, &bytes);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend([0x08, 0x00]);
        frame.extend(&bytes);
        let _ = parsed(parse::Layer::Ethernet, &frame);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        let _ = parsed(parse::Layer::Ethernet, &frame);
        let _ = parsed(parse::Layer::Ethernet, &bytes);
    }

    #[test]
    fn both_directions_have_one_key(flow in 0..u16::MAX - 1_000) {
        let (_, there) = packet(Hook::Lan, flow, "A");
        let (_, back) = packet(Hook::Tunnel, flow, "A");
        prop_assert_eq!(there.key, back.key);
    }
}

/// Flows over tunnels, one packet each: which took which.
fn round(both: &mut Both, flows: u16) -> Vec<Option<TunnelId>> {
    (0..flows).map(|flow| both.lan(flow, "A")).collect()
}

#[test]
fn weights_move_no_live_flow() {
    let mut both = Both::new(1_000);
    let before = round(&mut both, 500);
    for weights in [[3, 1, 1, 1], [0, 0, 0, 1], [1, 65_535, 0, 0]] {
        both.weigh(weights);
        assert_eq!(round(&mut both, 500), before);
    }
}

#[test]
fn only_the_flows_of_a_lost_tunnel_move_and_none_returns() {
    for state in [State::Down, State::Out, State::Gone] {
        let mut both = Both::new(1_000);
        let before = round(&mut both, 500);
        both.set(2, state);
        let after = round(&mut both, 500);
        for (old, new) in before.iter().zip(&after) {
            assert_eq!(*old == Some(2), old != new);
            assert_ne!(*new, Some(2));
        }
        both.set(2, State::Good);
        assert_eq!(round(&mut both, 500), after);
        let new = (500..700)
            .filter(|&flow| both.lan(flow, "S") == Some(2))
            .count();
        assert!(new > 20, "new flows use it at once: {new} of 200");
    }
}

/// Routes that change reshuffle nothing: a flow moves only if its tunnel is no longer one of the group's.
#[test]
fn only_the_flows_of_a_lost_route_move() {
    let mut both = Both::new(1_000);
    let before = round(&mut both, 300);
    let new_flows = |both: &Both| -> u64 {
        let of_tunnel = |id| both.tables.tunnel_counters(id).new_flows;
        TUNNELS.into_iter().map(of_tunnel).sum()
    };
    // Tunnels 1, 2 and 3 are left.
    both.route(4);
    let after = round(&mut both, 300);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(*old == Some(0), old != new);
        assert_ne!(*new, Some(0));
    }
    let moves = both.tables.moves();
    assert!(
        moves
            .iter()
            .all(|moved| moved.reason == MoveReason::RouteGone)
    );
    assert_eq!(
        moves.len(),
        before.iter().filter(|id| **id == Some(0)).count()
    );
    // And all is well when it is back.
    both.route(0);
    assert_eq!(round(&mut both, 300), after);
    assert_eq!(new_flows(&both), 300, "none is new");
    // The group of another home is another matter.
    both.route(1);
    round(&mut both, 300);
    assert_eq!(new_flows(&both), 600);
    assert_eq!(both.tables.moves().len(), moves.len());
}

/// The far end cannot lead a flow to where its replies may not go.
#[test]
fn nothing_is_learned_outside_the_group() {
    let mut both = Both::new(100);
    both.route(2);
    both.remote(4, "S", 3);
    assert_eq!(both.tables.flow_count(), 0);
    both.remote(4, "S", 1);
    both.remote(4, "A", 2);
    assert_eq!(both.lan(4, "A"), Some(1));
    both.remote(4, "A", 0);
    assert_eq!(both.lan(4, "A"), Some(0));
    // Its tunnel is no longer in the group, and the far end still uses it.
    both.route(3);
    both.remote(4, "A", 0);
    let moved = both.lan(4, "A").expect("a tunnel");
    assert!([2, 3].contains(&moved));
    both.remote(4, "A", 0);
    assert_eq!(both.lan(4, "A"), Some(moved));
}

/// With no usable tunnel in the group, a flow does not stay where no route leads.
#[test]
fn a_lost_route_is_not_used_though_all_others_are_down() {
    let mut both = Both::new(100);
    both.route(2);
    let first = both.lan(1, "S").expect("a tunnel");
    both.route(3);
    both.set(2, State::Down);
    both.set(3, State::Down);
    assert_eq!(both.lan(1, "A"), None);
    both.route(2);
    assert_eq!(
        both.lan(1, "A"),
        Some(first),
        "back before anything changed"
    );
}

#[test]
fn userspace_moves_only_what_may_move() {
    let mut both = Both::new(100);
    let from = both.lan(1, "S").expect("a tunnel");
    let others: Vec<_> = TUNNELS.into_iter().filter(|id| *id != from).collect();
    let [a, b, c] = others[..] else {
        panic!("three others");
    };
    assert!(!both.rebalance(2, from, a), "no such flow");
    assert!(!both.rebalance(1, a, b), "not there");
    assert!(!both.rebalance(1, from, from));
    for state in [State::Draining, State::Down, State::Out] {
        both.set(a, state);
        assert!(!both.rebalance(1, from, a), "{state:?}");
    }
    both.remote(4, "S", from);
    assert!(!both.rebalance(4, from, b), "the far end leads");
    assert!(both.rebalance(1, from, b));
    assert!(!both.rebalance(1, from, b), "not there any more");
    assert_eq!(both.lan(1, "A"), Some(b), "and it stays");
    both.wait(7_441);
    assert!(!both.rebalance(1, b, c), "it is over");
}

#[test]
fn a_draining_tunnel_keeps_its_flows_and_gets_no_new_ones() {
    let mut both = Both::new(1_000);
    let before = round(&mut both, 300);
    both.set(1, State::Draining);
    assert_eq!(round(&mut both, 300), before);
    assert!((300..600).all(|flow| both.lan(flow, "S") != Some(1)));
}

#[test]
fn flows_stay_while_every_tunnel_is_down() {
    let mut both = Both::new(1_000);
    let before = round(&mut both, 100);
    for id in TUNNELS {
        both.set(id, State::Down);
    }
    assert_eq!(round(&mut both, 100), before);
    assert_eq!(both.lan(500, "S"), None, "a new one has nowhere to go");
    both.set(3, State::Good);
    assert!(round(&mut both, 100).iter().all(|&id| id == Some(3)));
}

#[test]
fn a_learned_flow_follows_and_a_placed_one_does_not() {
    let mut both = Both::new(100);
    both.remote(4, "S", 3);
    assert_eq!(both.lan(4, "A"), Some(3));
    both.remote(4, "A", 1);
    assert_eq!(both.lan(4, "A"), Some(1));
    let ours = both.lan(5, "S").expect("a tunnel");
    both.remote(5, "A", (ours + 1) % 4);
    assert_eq!(both.lan(5, "A"), Some(ours));
}

#[test]
fn idle_flows_are_forgotten_after_their_protocols_time() {
    // Flow 1 is TCP, flow 3 is UDP. Where the hash puts them shows whether they were placed anew.
    let cases = [(1, "A", 7_440), (1, "FA", 30), (1, "R", 30), (3, "A", 300)];
    for (flow, flags, limit) in cases {
        let mut both = Both::new(100);
        let first = both.lan(flow, flags).expect("a tunnel");
        let mut weights = [1; 4];
        weights[usize::from(first)] = 0;
        both.weigh(weights);
        both.wait(limit);
        assert_eq!(both.lan(flow, "A"), Some(first), "{flags}: at {limit} s");
        both.wait(limit + 1);
        assert_ne!(both.lan(flow, "A"), Some(first), "{flags}: after {limit} s");
    }
}

#[test]
fn a_connection_that_opens_anew_after_its_end_is_placed_anew() {
    let mut both = Both::new(100);
    let first = both.lan(1, "S").expect("a tunnel");
    let mut weights = [1; 4];
    weights[usize::from(first)] = 0;
    both.weigh(weights);
    assert_eq!(both.lan(1, "S"), Some(first), "a SYN sent again");
    both.lan(1, "FA");
    assert_eq!(both.lan(1, "A"), Some(first), "the last ACK");
    assert_ne!(both.lan(1, "S"), Some(first));
}

#[test]
fn a_full_table_falls_back_to_the_hash_and_says_so() {
    let mut both = Both::new(10);
    let before = round(&mut both, 50);
    assert!(before.iter().all(Option::is_some));
    assert_eq!(both.tables.flow_count(), 10);
    assert_eq!(both.model.full, 40);
    // Those with an entry keep their tunnel, those without follow the table.
    both.weigh([0, 0, 0, 1]);
    let after = round(&mut both, 50);
    assert_eq!(after[..10], before[..10]);
    assert!(after[10..].iter().all(|&id| id == Some(3)));
}

#[test]
fn two_gateways_place_alike() {
    let (mut a, mut b) = (Both::new(10), Both::new(1_000));
    for flow in 0..300 {
        let there = a.lan(flow, "S");
        // Gateway B sees the same flow from its own LAN: the source is the other endpoint.
        let (arrival, _) = packet(Hook::Lan, flow, "S");
        let key = parsed(parse::Layer::Ethernet, &arrival.bytes)
            .expect("parsed")
            .key;
        let hash = steer_common::hash::flow_hash(b.tables.settings.seed, &key);
        let bucket = steer_common::hash::bucket_of(hash) as usize;
        assert_eq!(there, Some(b.model.group().table[bucket]));
        assert_eq!(b.lan(flow, "S"), there);
    }
}
