//! The program tier: what userspace reads and writes of the pinned maps, without any device.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::maps::{HashMap, Map, MapData, MapInfo};
use nix::{
    mount::{MntFlags, umount2},
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use steer_common::{
    abi::{
        ABI_VERSION, Admin, Cause, EVENTS_MAX, Endpoint, Event, EventKind, FlowEntry, FlowKey,
        Group, Health, HealthReason, HookMode, MOVES_MAX, Membership, MembershipKey, MoveReason,
        MoveRecord, Origin, Phase, Placement, Placer, PrefixSource, Settings, Tunnel, TunnelHealth,
        bitmap, maps,
    },
    key::mapped,
};
use steer_tests::program::{compare::now_ns, netns};
use steer_user::datapath::{
    DatapathError,
    maps::{Maps, MoveCursor},
    mover::Mover,
    pins::PinDir,
    programs::Programs,
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

/// Rounds of moves under a reader's eyes.
const TURNS: u64 = 400;
/// Flows that there is room for.
const ROOM: u32 = 256;

/// A directory of pins on a bpffs of its own.
struct Pinned {
    dir: PathBuf,
    pins: PinDir,
}

impl Pinned {
    fn empty(name: &str) -> Self {
        let dir = Path::new("/run").join(format!("steer-pins-{name}"));
        // What a killed test left.
        let _ = umount2(&dir, MntFlags::MNT_DETACH);
        let pins = PinDir::new(&dir);
        pins.prepare().expect("a bpffs").keep();
        Self { dir, pins }
    }

    /// With maps: tunnels 0 and 1 of a group that `10.2.0.0/16` belongs to.
    fn new(name: &str) -> Self {
        let made = Self::empty(name);
        Programs::load(&made.pins, ROOM, HookMode::Unset).expect("the maps");
        let mut maps = made.maps();
        let settings = Settings {
            abi_version: ABI_VERSION,
            epoch: 1,
            idle_udp_ns: u64::MAX,
            ..maps.settings().expect("the settings")
        };
        maps.set_settings(&settings).expect("the settings");
        let group = Group {
            name: *b"default\0\0\0\0\0\0\0\0\0",
            placement: Placement::Hash,
            parent: 0,
            members: bitmap([0, 1]),
            prefixes_from: PrefixSource::Operator,
            reserved: 0,
        };
        maps.set_group(0, &group).expect("the group");
        maps.set_prefix("10.2.0.0/16".parse().expect("a prefix"), 0)
            .expect("the prefix");
        for (id, ifindex) in [(0, 1_000), (1, 1_001)] {
            let tunnel = Tunnel {
                ifindex,
                admin: Admin::Active,
                health: Health::Up,
                reserved: 0,
            };
            maps.set_tunnel(id, &tunnel).expect("the tunnel");
        }
        made
    }

    fn maps(&self) -> Maps {
        Maps::open(&self.pins).expect("the maps")
    }

    /// Enters flows on tunnel 0, which only the program does otherwise.
    fn enter(&self, flows: u16) {
        const KEY: usize = size_of::<FlowKey>();
        const ENTRY: usize = size_of::<FlowEntry>();
        let data = MapData::from_pin(self.pins.map(maps::FLOWS)).expect("the pin");
        let map = Map::from_map_data(data).expect("the map");
        let mut map: HashMap<_, [u8; KEY], [u8; ENTRY]> = map.try_into().expect("a hash");
        for flow in 0..flows {
            let entry = FlowEntry {
                created_ns: 1,
                last_seen_ns: 1,
                tx_packets: 1,
                rx_packets: 0,
                tx_bytes: 100,
                rx_bytes: 0,
                epoch: 1,
                tunnel: 0,
                group: 0,
                home: 0,
                origin: Origin::Hashed,
                local: Endpoint::Low,
                placer: Placer::Near,
                phase: Phase::Open,
            };
            let key: [u8; KEY] = bytemuck::cast(key(flow));
            let entry: [u8; ENTRY] = bytemuck::bytes_of(&entry).try_into().expect("its size");
            map.insert(key, entry, 0).expect("room");
        }
    }

    fn map_ids(&self) -> Vec<u32> {
        let id = |name| MapInfo::from_pin(self.pins.map(name)).expect("a map").id();
        maps::ALL.map(id).to_vec()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.pins.remove();
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.dir);
    }
}

fn key(flow: u16) -> FlowKey {
    FlowKey {
        low_addr: mapped([10, 1, 0, 2]),
        high_addr: mapped([10, 2, 0, 2]),
        low_port: 1_000 + flow,
        high_port: 53,
        protocol: 17,
    }
}

fn records(flows: std::ops::Range<u16>, from: u32, to: u32) -> Vec<MoveRecord> {
    let record = |flow| MoveRecord {
        key: key(flow),
        from,
        to,
    };
    flows.map(record).collect()
}

/// Puts this thread on a CPU, if the machine has it.
fn run_on(cpu: usize) -> bool {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a number");
    sched_setaffinity(Pid::from_raw(0), &cpus).is_ok()
}

#[test]
fn events_are_numbered_and_the_latest_kept() {
    needs_root!("events_are_numbered_and_the_latest_kept");
    let pinned = Pinned::new("events");
    let mut maps = pinned.maps();
    assert_eq!(maps.events().expect("the events"), []);
    let event = |count| Event {
        tunnel: 1,
        before: 1,
        after: 3,
        count,
        reason: HealthReason::NotAnswering,
        name: *b"wg1\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ..Event::new(EventKind::HealthChanged, Cause::Daemon)
    };
    let started_ns = now_ns().expect("the clock");
    maps.push_event(&event(1)).expect("written");
    // Another process.
    pinned.maps().push_event(&event(2)).expect("written");
    let found = maps.events().expect("the events");
    let at = |number: usize| found[number].at_ns;
    assert!(started_ns <= at(0) && at(0) <= at(1) && at(1) <= now_ns().expect("the clock"));
    let wanted = [1, 2].map(|seq| Event {
        seq,
        at_ns: at(usize::from(seq == 2)),
        ..event(u32::try_from(seq).expect("small"))
    });
    assert_eq!(found, wanted);
    assert_eq!(maps.events_after(1).expect("the events"), wanted[1..]);
    assert_eq!(maps.events_after(2).expect("the events"), []);

    // Twice round the ring, and at each end of it.
    let most = 2 * u32::try_from(EVENTS_MAX).expect("small") + 2;
    for count in 3..=most {
        maps.push_event(&event(count)).expect("written");
        let last = u64::from(count);
        if count % 1_000 == 0 || count % 4_096 < 3 || count % 4_096 == 4_095 {
            let found = maps.events().expect("the events");
            let oldest = last.saturating_sub(EVENTS_MAX as u64 - 1).max(1);
            assert!(found.iter().map(|event| event.seq).eq(oldest..=last));
            assert!(
                found
                    .iter()
                    .all(|event| u64::from(event.count) == event.seq)
            );
            assert_eq!(maps.events_after(last - 1).expect("the events").len(), 1);
        }
    }
}

#[test]
fn flows_are_moved_in_batches_and_the_log_is_read() {
    needs_root!("flows_are_moved_in_batches_and_the_log_is_read");
    let pinned = Pinned::new("moves");
    pinned.enter(100);
    let maps = pinned.maps();
    let ids = pinned.map_ids();
    let mut mover = Mover::load(&pinned.pins).expect("the program");
    assert_eq!(pinned.map_ids(), ids, "on the maps that there are");
    let mut cursor = MoveCursor::default();
    assert_eq!(maps.moves_after(&mut cursor).expect("the log"), []);

    assert_eq!(mover.move_flows(&[]).expect("no run"), 0);
    assert_eq!(mover.move_flows(&records(0..70, 0, 1)).expect("runs"), 70);
    assert_eq!(mover.move_flows(&records(60..100, 0, 1)).expect("runs"), 30);
    let counters = [0, 1].map(|id| maps.tunnel_counters(id).expect("counters"));
    assert_eq!([counters[0].moved_out, counters[1].moved_in], [100, 100]);
    assert_eq!(maps.counters().expect("counters").moves, 100);
    let entry = maps.flow(&key(99)).expect("the map").expect("an entry");
    assert_eq!((entry.tunnel, entry.origin), (1, Origin::Moved));

    let log = maps.moves_after(&mut cursor).expect("the log");
    assert_eq!(log.len(), 100);
    assert!((0..).zip(&log).all(|(flow, line)| line.key == key(flow)));
    assert!(log.iter().all(|line| (line.from, line.to) == (0, 1)));
    assert!(log.iter().all(|line| line.reason == MoveReason::Rebalanced));
    assert_eq!(maps.moves().expect("the log"), log, "who has read nothing");
    assert_eq!(maps.moves_after(&mut cursor).expect("the log"), []);
    assert_eq!(cursor.missed, 0);
}

/// The rings of two CPUs, of which one has gone round.
#[test]
fn the_logs_of_all_cpus_are_one() {
    needs_root!("the_logs_of_all_cpus_are_one");
    let pinned = Pinned::new("cpus");
    pinned.enter(200);
    let maps = pinned.maps();
    let mut mover = Mover::load(&pinned.pins).expect("the program");
    let mut turn = |cpu| {
        if !run_on(cpu) {
            return 0;
        }
        let there = mover.move_flows(&records(0..200, 0, 1)).expect("runs");
        there + mover.move_flows(&records(0..200, 1, 0)).expect("runs")
    };
    assert_eq!(turn(0), 400);
    let mut cursor = MoveCursor::default();
    assert_eq!(maps.moves_after(&mut cursor).expect("the log").len(), 400);
    let other = turn(1) as usize;
    for _ in 0..3 {
        turn(0);
    }
    let log = maps.moves_after(&mut cursor).expect("the log");
    assert_eq!(log.len(), MOVES_MAX + other);
    assert_eq!(cursor.missed, 1_200 - MOVES_MAX as u64);
    assert!(log.windows(2).all(|two| two[0].at_ns <= two[1].at_ns));
    let last = log.iter().rfind(|line| line.seq == 1_600);
    assert_eq!(last.map(|line| line.key), Some(key(199)));
    assert_eq!(maps.moves_after(&mut cursor).expect("the log"), []);
    if other == 0 {
        println!("one CPU only");
    }
}

/// Whoever reads while flows are moved sees each move once, and none that is half written.
#[test]
fn a_reader_sees_every_move_once() {
    needs_root!("a_reader_sees_every_move_once");
    let pinned = Pinned::new("reader");
    pinned.enter(100);
    let maps = pinned.maps();
    let mut mover = Mover::load(&pinned.pins).expect("the program");
    let mut cursor = MoveCursor::default();
    let mut seen = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for turn in 0..TURNS {
                let (from, to) = if turn % 2 == 0 { (0, 1) } else { (1, 0) };
                let moved = mover.move_flows(&records(0..100, from, to));
                assert_eq!(moved.expect("runs"), 100);
            }
        });
        let mut is_last = false;
        while !is_last {
            is_last = writer.is_finished();
            for line in maps.moves_after(&mut cursor).expect("the log") {
                assert!(key(0).low_port <= line.key.low_port && line.key.low_port < 1_100);
                assert_eq!(line.from + line.to, 1);
                assert_eq!(line.reason, MoveReason::Rebalanced);
                seen += 1;
            }
        }
    });
    println!("{seen} moves seen, {} missed", cursor.missed);
    assert_eq!(seen + cursor.missed, TURNS * 100);
}

/// Two at once want the same flows elsewhere: each move is one's, and counted once.
#[test]
fn two_at_once_count_no_move_twice() {
    needs_root!("two_at_once_count_no_move_twice");
    let pinned = Pinned::new("two");
    pinned.enter(32);
    let maps = pinned.maps();
    let moved: u64 = std::thread::scope(|scope| {
        let both = [(0, 0, 1), (1, 1, 0)].map(|(cpu, from, to)| {
            let mut mover = Mover::load(&pinned.pins).expect("the program");
            scope.spawn(move || {
                run_on(cpu);
                let mut turn = || mover.move_flows(&records(0..32, from, to)).expect("runs");
                (0..20_000).map(|_| u64::from(turn())).sum::<u64>()
            })
        });
        both.map(|thread| thread.join().expect("no panic"))
            .iter()
            .sum()
    });
    println!("{moved} moves");
    let [on_0, on_1] = [0, 1].map(|id| maps.tunnel_counters(id).expect("counters"));
    assert_eq!(maps.counters().expect("counters").moves, moved);
    assert_eq!(on_0.moved_in + on_1.moved_in, moved);
    assert_eq!(on_0.moved_out + on_1.moved_out, moved);
    let is_on_1 = |flow| {
        maps.flow(&key(flow))
            .expect("the map")
            .expect("an entry")
            .tunnel
            == 1
    };
    let flows = (0..32).filter(|flow| is_on_1(*flow)).count() as u64;
    assert_eq!(on_1.moved_in - on_1.moved_out, flows);
}

#[test]
fn memberships_and_measurements_are_kept() {
    needs_root!("memberships_and_measurements_are_kept");
    let pinned = Pinned::new("records");
    let mut maps = pinned.maps();
    let member = |tunnel| MembershipKey { group: 7, tunnel };
    maps.set_membership(member(0), Membership { weight: 3 })
        .expect("written");
    maps.set_membership(member(1), Membership { weight: 1 })
        .expect("written");
    assert!(maps.remove_membership(member(1)).expect("removed"));
    assert!(!maps.remove_membership(member(1)).expect("removed"));
    let found = maps.memberships().expect("read");
    assert_eq!(found, [(member(0), Membership { weight: 3 })]);

    let unknown = maps.tunnel_health(3).expect("read");
    assert_eq!(
        (unknown.since_ns, unknown.reason),
        (0, HealthReason::Unknown)
    );
    let health = TunnelHealth {
        since_ns: 1,
        probed_ns: 2,
        rtt_us: 3,
        jitter_us: 4,
        loss_ppm: 5,
        reason: HealthReason::Lossy,
        answered_by: [0; 16],
    };
    maps.set_tunnel_health(3, &health).expect("written");
    assert_eq!(maps.tunnel_health(3).expect("read"), health);
}

/// Where nothing is pinned, nothing is made.
#[test]
fn the_program_is_not_loaded_where_nothing_steers() {
    needs_root!("the_program_is_not_loaded_where_nothing_steers");
    let pinned = Pinned::empty("nothing");
    let refused = Mover::load(&pinned.pins).err();
    assert!(matches!(refused, Some(DatapathError::NotRunning { .. })));
    assert!(!pinned.pins.is_used());
}
