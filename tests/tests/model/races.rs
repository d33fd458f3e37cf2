//! Packets of one flow on two CPUs at once, while a route changes.
//!
//! One CPU is held up before each look at the maps in turn. Meanwhile userspace does the two steps of a change,
//! the prefix and then the epoch, and the other CPU takes a packet.

use std::cell::Cell;

use steer_common::{
    abi::{
        Admin, Counters, FlowEntry, FlowKey, Fragment, FragmentKey, GroupId, Health, KnownAddress,
        Move, Settings, Tunnel, TunnelCounters, TunnelId, VlanKey,
    },
    decide::{Place, Verdict, steer},
    learn::learn,
    parse::Layer,
    tables::{Fit, Inserted, SharedFlow, Tables},
};
use steer_tests::packets::{
    build::Arrival,
    host::{HostTables, SlicePacket},
    programs::parsed,
    recipe::Hook,
    world::tunnel,
};

use super::{Both, DEVICES, GROUPS, packet};

/// More looks than a packet needs.
const LOOKS: usize = 24;
const FLOW: u16 = 1;
/// Tunnels 0 and 1.
const BEFORE: GroupId = 2;
/// What the prefix may belong to then: tunnels 2 and 3, or 1, 2 and 3.
const AFTER: [GroupId; 2] = [3, 4];

/// The maps, of which two things change while packets are on their way.
struct Shared {
    tables: HostTables,
    settings: [Settings; 2],
    /// Which of those holds.
    epoch: Cell<usize>,
    group: Cell<GroupId>,
    key: FlowKey,
    /// The flow's entry at the beginning.
    first: FlowEntry,
}

/// A CPU, and what happens before its looks of these numbers.
struct Cpu<'t> {
    shared: &'t Shared,
    looks: Cell<usize>,
    is_counting: Cell<bool>,
    meanwhile: &'t [(usize, &'t dyn Fn())],
}

/// A packet of the flow.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Lan,
    From(TunnelId),
}

impl Shared {
    /// With the flow on a tunnel of the group before.
    fn new(far_leads: bool, own_is_down: bool) -> Self {
        let mut both = Both::new(10);
        both.route(BEFORE);
        if far_leads {
            both.remote(FLOW, "A", 0);
        } else {
            both.lan(FLOW, "A").expect("a tunnel");
        }
        let before = both.tables.settings;
        let after = Settings {
            epoch: before.epoch + 1,
            ..before
        };
        let (_, packet) = packet(Hook::Lan, FLOW, "A");
        let first = both.tables.entry(&packet.key).expect("an entry");
        let own = usize::from(first.tunnel);
        if own_is_down {
            both.tables.tunnels[own] = Some(tunnel(DEVICES[own], Admin::Active, Health::Down));
        }
        Self {
            tables: both.tables,
            settings: [before, after],
            epoch: Cell::new(0),
            group: Cell::new(BEFORE),
            key: packet.key,
            first,
        }
    }

    /// As at the beginning.
    fn begin(&mut self) {
        self.tables.forget();
        self.tables.insert_flow(&self.key, &self.first);
        self.epoch.set(0);
        self.group.set(BEFORE);
    }

    fn entry(&self) -> FlowEntry {
        self.tables.entry(&self.key).expect("an entry")
    }

    fn is_member(&self, tunnel: u32) -> bool {
        let (_, members) = GROUPS[usize::from(self.group.get())];
        members.iter().any(|member| u32::from(*member) == tunnel)
    }

    /// A packet on a CPU: the tunnel that it takes towards the far end.
    fn take(&self, kind: Kind, meanwhile: &[(usize, &dyn Fn())]) -> Option<TunnelId> {
        let cpu = Cpu {
            shared: self,
            looks: Cell::new(0),
            is_counting: Cell::new(false),
            meanwhile,
        };
        let (hook, layer) = match kind {
            Kind::Lan => (Hook::Lan, Layer::Ethernet),
            Kind::From(_) => (Hook::Tunnel, Layer::Network),
        };
        let (Arrival { bytes, .. }, _) = packet(hook, FLOW, "A");
        let parsed = parsed(layer, &bytes).expect("an ordinary packet");
        let packet = SlicePacket {
            bytes: &bytes,
            gso_size_bytes: 0,
            segments: 1,
        };
        let taken = match kind {
            Kind::Lan => match steer(&packet, &cpu, &parsed, Place::Lan) {
                Verdict::Redirect(exit) => Some(exit.tunnel),
                other => panic!("{other:?}"),
            },
            Kind::From(id) => {
                assert!(
                    learn(&packet, &cpu, &parsed, id),
                    "it is of a steered prefix"
                );
                None
            }
        };
        assert!(cpu.looks.get() < LOOKS);
        taken
    }

    /// What holds at any time: what was checked in this epoch is right.
    fn check(&self) {
        let entry = self.entry();
        let settings = &self.settings[self.epoch.get()];
        if entry.epoch == settings.epoch {
            assert_eq!(entry.group, u16::from(self.group.get()), "{entry:?}");
            assert!(self.is_member(entry.tunnel.into()), "{entry:?}");
        }
    }

    /// What holds when nobody is held up: each move is counted and logged once.
    fn check_counters(&self) {
        let log = self.tables.moves();
        for id in 0..4 {
            let found = self.tables.tunnel_counters(id);
            let lines = |is: fn(&Move) -> u32| {
                log.iter().filter(|line| is(line) == u32::from(id)).count() as u64
            };
            let logged = (lines(|line| line.to), lines(|line| line.from));
            assert_eq!((found.moved_in, found.moved_out), logged, "tunnel {id}");
            let is_on = |tunnel: u16| i64::from(tunnel == u16::from(id));
            let more = is_on(self.entry().tunnel) - is_on(self.first.tunnel);
            assert_eq!(logged.0.cast_signed() - logged.1.cast_signed(), more);
        }
    }
}

#[test]
fn a_cpu_that_is_held_up_undoes_nothing() {
    let kinds = [Kind::Lan, Kind::From(0), Kind::From(1), Kind::From(2)];
    let pairs = || kinds.iter().flat_map(|a| kinds.map(|b| (*a, b)));
    let steps = || (0..LOOKS).flat_map(|at| (at..LOOKS).map(move |then| (at, then)));
    for (far_leads, own_is_down) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut shared = Shared::new(far_leads, own_is_down);
        for ((packets, after), at) in pairs()
            .flat_map(|pair| AFTER.map(|after| (pair, after)))
            .flat_map(|case| steps().map(move |at| (case, at)))
        {
            shared.begin();
            run(&shared, packets, after, at);
        }
    }
}

fn run(
    shared: &Shared,
    (held_up, other): (Kind, Kind),
    after: GroupId,
    (prefix_at, epoch_at): (usize, usize),
) {
    let then = Cell::new(None);
    let prefix = || shared.group.set(after);
    let epoch = || {
        shared.epoch.set(1);
        shared.take(other, &[]);
        shared.check();
        then.set(matches!(other, Kind::Lan).then(|| shared.entry().tunnel));
    };
    shared.take(held_up, &[(prefix_at, &prefix), (epoch_at, &epoch)]);
    // It may have been done before that.
    if shared.epoch.get() == 0 {
        prefix();
        epoch();
    }
    shared.check();
    shared.check_counters();
    // Where the other one has followed the new route, this one moves nothing by the old one.
    let now = shared.entry().tunnel;
    assert!(then.get().is_none_or(|then| then == now) || shared.is_member(now.into()));
    let taken = shared.take(Kind::Lan, &[]).expect("a tunnel");
    assert!(shared.is_member(taken.into()));
    shared.check();
    let moves = shared.tables.moves().len();
    assert_eq!(shared.take(Kind::Lan, &[]), Some(taken));
    assert_eq!(shared.tables.moves().len(), moves, "and there it stays");
    shared.check_counters();
}

impl Cpu<'_> {
    fn look(&self) -> &HostTables {
        let number = self.looks.get();
        if self.is_counting.get() {
            return &self.shared.tables;
        }
        self.looks.set(number + 1);
        for (at, happens) in self.meanwhile {
            if *at == number {
                happens();
            }
        }
        &self.shared.tables
    }
}

impl Tables for Cpu<'_> {
    fn settings(&self) -> &Settings {
        self.look();
        &self.shared.settings[self.shared.epoch.get()]
    }

    fn now_ns(&self) -> u64 {
        self.look().now_ns()
    }

    fn group_of(&self, addr: &[u8; 16]) -> Option<GroupId> {
        let found = self.look().group_of(addr);
        found.map(|_| self.shared.group.get())
    }

    fn home_of(&self, group: GroupId) -> GroupId {
        self.look().home_of(group)
    }

    fn is_member(&self, group: GroupId, tunnel: TunnelId) -> bool {
        self.look().is_member(group, tunnel)
    }

    fn flow(&self, key: &FlowKey) -> Option<&SharedFlow> {
        self.look().flow(key)
    }

    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> Inserted {
        self.look().insert_flow(key, entry)
    }

    fn address(&self, addr: &[u8; 16]) -> Option<KnownAddress> {
        self.look().address(addr)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.look().fragment(key)
    }

    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.look().remember_fragment(key, fragment);
    }

    fn vlan(&self, key: &VlanKey) -> Option<u32> {
        self.look().vlan(key)
    }

    fn bucket(&self, group: GroupId, bucket: u32) -> TunnelId {
        self.look().bucket(group, bucket)
    }

    fn tunnel(&self, id: TunnelId) -> Option<Tunnel> {
        self.look().tunnel(id)
    }

    fn fit(&self, ifindex: u32, l3_len_bytes: u32) -> Fit {
        self.look().fit(ifindex, l3_len_bytes)
    }

    fn mtu_bytes(&self, ifindex: u32) -> Option<u32> {
        self.look().mtu_bytes(ifindex)
    }

    fn log_move(&self, moved: &Move) {
        self.look().log_move(moved);
    }

    fn count(&self, id: TunnelId, change: impl FnOnce(&mut TunnelCounters)) {
        let tables = self.look();
        // The host's counters are copies meanwhile, other than the kernel's.
        self.is_counting.set(true);
        tables.count(id, change);
        self.is_counting.set(false);
    }

    fn note(&self, change: impl FnOnce(&mut Counters)) {
        self.look().note(change);
    }

    fn add(&self, counter: &Cell<u64>, n: u64) {
        self.look().add(counter, n);
    }

    fn replace(&self, number: &Cell<u64>, from: u64, to: u64) -> bool {
        self.look().replace(number, from, to)
    }
}
