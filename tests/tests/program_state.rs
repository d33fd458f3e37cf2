//! The program tier: flow entries over time, full tables, devices that go, sizes, and dumps.

use std::net::IpAddr;
use std::thread;

use steer_common::{
    abi::{
        Admin, Endpoint, FLOWS_MAX, FlowEntry, FlowKey, Health, Origin, PassReason, Phase, Placer,
        programs,
    },
    bench::programs::REDIRECT,
};
use steer_tests::{
    packets::{
        build::{self, Arrival},
        programs::parsed,
        recipe::{Hook, Protocol, Recipe},
        world::{self, MTU},
    },
    program::{
        compare::{Pair, TICK, now_ns},
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

#[path = "program_state/dumps.rs"]
mod dumps;

const SECOND: u64 = 1_000_000_000;
/// The largest flow table that is made without being asked for.
const FLOWS: u32 = FLOWS_MAX;

/// An ordinary packet of flow number `flow`.
fn recipe(hook: Hook, flow: u16, flags: &str) -> Recipe {
    let mut recipe = Recipe {
        hook: Some(hook),
        flags: flags.into(),
        src_port: 1_000 + flow,
        ..Recipe::default()
    };
    if !hook.is_out() {
        (recipe.src_port, recipe.dst_port) = (recipe.dst_port, recipe.src_port);
    }
    recipe
}

fn frame(flow: u16, flags: &str) -> Vec<u8> {
    build::packet(&recipe(Hook::Lan, flow, flags))
}

/// A frame as it comes from the LAN.
fn lan(frame: &[u8]) -> Arrival {
    Arrival {
        bytes: frame.to_vec(),
        ..build::arrival(&Recipe::default())
    }
}

fn key(frame: &[u8]) -> FlowKey {
    parsed(steer_common::parse::Layer::Ethernet, frame)
        .expect("an ordinary packet")
        .key
}

fn entry(pair: &Pair, frame: &[u8]) -> FlowEntry {
    let entry = pair.kernel.flow(&key(frame)).expect("the map");
    entry.expect("an entry")
}

#[test]
fn an_entry_tells_the_flows_story() {
    needs_root!("an_entry_tells_the_flows_story");
    let mut pair = Pair::new(16).expect("the world");
    let out = frame(0, "A");
    let back = build::arrival(&recipe(Hook::Tunnel, 0, "A"));
    let started = now_ns().expect("the clock");
    for _ in 0..3 {
        pair.send(&lan(&out)).expect("alike");
    }
    for _ in 0..2 {
        pair.send(&back).expect("alike");
    }
    let entry = entry(&pair, &out);
    assert_eq!((entry.tx_packets, entry.rx_packets), (3, 2));
    assert_eq!((entry.tx_bytes, entry.rx_bytes), (3 * 72, 2 * 72));
    assert_eq!(entry.origin, Origin::Hashed);
    assert_eq!(entry.placer, Placer::Near);
    assert_eq!(
        entry.local,
        Endpoint::Low,
        "10.1.0.2 is lower than 10.2.0.2"
    );
    assert_eq!(entry.phase, Phase::Open);
    assert_eq!((entry.epoch, entry.group), (1, 0));
    // The coarse clock lags by a tick.
    assert!(entry.created_ns + 20_000_000 >= started);
    assert!(entry.last_seen_ns >= entry.created_ns);
}

/// The entry's last packet is put back in time; the next packet shows whether it still counts: a
/// new entry starts its packets at 1.
#[test]
fn idle_entries_end_after_their_protocols_time() {
    needs_root!("idle_entries_end_after_their_protocols_time");
    let cases = [
        (Protocol::Tcp, "A", 7_440),
        (Protocol::Tcp, "FA", 30),
        (Protocol::Tcp, "R", 30),
        (Protocol::Udp, "", 300),
        (Protocol::UdpLite, "", 300),
        (Protocol::Sctp, "", 60),
        (Protocol::Icmp, "", 60),
        (Protocol::Gre, "", 60),
    ];
    let mut pair = Pair::new(64).expect("the world");
    // A machine that has just started has no time to go back to.
    if now_ns().expect("the clock") < 8_000 * SECOND {
        let settings = &mut pair.host.settings;
        settings.idle_tcp_ns = 70 * SECOND;
        settings.idle_udp_ns = 65 * SECOND;
        let settings = *settings;
        pair.kernel.set_settings(&settings).expect("the settings");
    }
    for (number, (protocol, flags, limit_secs)) in (0..).zip(cases) {
        let limit_ns = match (protocol, flags) {
            (Protocol::Tcp, "A") => pair.host.settings.idle_tcp_ns,
            (Protocol::Udp | Protocol::UdpLite, _) => pair.host.settings.idle_udp_ns,
            _ => limit_secs * SECOND,
        };
        let mut recipe = recipe(Hook::Lan, number, flags);
        recipe.protocol = protocol;
        let first = build::packet(&recipe);
        recipe.flags = "A".into();
        let next = build::packet(&recipe);
        for (idle_ns, packets) in [(limit_ns - SECOND, 2), (limit_ns + SECOND, 1)] {
            pair.kernel.delete_flows().expect("empty");
            pair.kernel.ingress(&pair.devices, &first).expect("a run");
            let mut old = entry(&pair, &first);
            let now = now_ns().expect("the clock");
            let Some(then) = now.checked_sub(idle_ns) else {
                println!("SKIP (optional) {protocol:?} {flags}: the machine is up for too short");
                continue;
            };
            old.last_seen_ns = then;
            pair.kernel
                .set_flow(&key(&first), &old)
                .expect("back in time");
            pair.kernel.ingress(&pair.devices, &next).expect("a run");
            let entry = entry(&pair, &next);
            assert_eq!(
                entry.tx_packets,
                packets,
                "{protocol:?} {flags} after {} s",
                idle_ns / SECOND
            );
        }
    }
}

#[test]
fn a_full_table_falls_back_to_the_hash() {
    needs_root!("a_full_table_falls_back_to_the_hash");
    let pair = Pair::new(8).expect("the world");
    let mut redirected = 0;
    for flow in 0..100 {
        let ran = pair
            .kernel
            .ingress(&pair.devices, &frame(flow, "S"))
            .expect("a run");
        redirected += u32::from(ran.redirected);
    }
    assert_eq!(redirected, 100);
    let entered = pair.kernel.flow_count().expect("the map") as u64;
    assert_eq!(entered, 8);
    let full: u64 = [0, 1]
        .map(|id| {
            pair.kernel
                .tunnel_counters(id)
                .expect("counters")
                .table_full
        })
        .iter()
        .sum();
    assert_eq!(full, 100 - entered);
}

/// Every entry is made by the program itself, from a packet of its own.
#[test]
fn a_million_flows_fit() {
    needs_root!("a_million_flows_fit");
    let pair = Pair::new(FLOWS).expect("the world");
    let packet = |flow: u32| {
        let mut recipe = recipe(Hook::Lan, 0, "A");
        recipe.payload = 0;
        let [_, b, c, d] = flow.to_be_bytes();
        recipe.src = Some(std::net::Ipv4Addr::new(10, 1, b, 2).into());
        recipe.src_port = u16::from_be_bytes([c, d]);
        build::packet(&recipe)
    };
    for flow in 0..FLOWS {
        let ran = pair
            .kernel
            .ingress(&pair.devices, &packet(flow))
            .expect("a run");
        assert!(ran.redirected, "flow {flow}");
    }
    let count = pair.kernel.flow_count().expect("the map");
    println!("{count} of {FLOWS} flows entered");
    assert_eq!(count, FLOWS as usize);
    let ran = pair
        .kernel
        .ingress(&pair.devices, &packet(FLOWS))
        .expect("a run");
    assert!(ran.redirected, "one more than fit");
    assert_eq!(
        pair.kernel.flow(&key(&packet(FLOWS))).expect("the map"),
        None
    );
}

/// Nobody tells the maps that a device is gone: the program notices.
#[test]
fn flows_leave_a_deleted_device_at_their_next_packet() {
    needs_root!("flows_leave_a_deleted_device_at_their_next_packet");
    let pair = Pair::new(1_024).expect("the world");
    let send = |flow| {
        let frame = frame(flow, "A");
        let ran = pair.kernel.ingress(&pair.devices, &frame).expect("a run");
        assert!(ran.redirected, "flow {flow}");
        entry(&pair, &frame)
    };
    let before: Vec<FlowEntry> = (0..200).map(send).collect();
    assert!(before.iter().any(|entry| entry.tunnel == 0));
    netns::ip(&["link", "del", "t0"]).expect("deleted");
    let after: Vec<FlowEntry> = (0..200).map(send).collect();
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(new.tunnel, 1);
        let expected = if old.tunnel == 0 {
            Origin::Moved
        } else {
            Origin::Hashed
        };
        assert_eq!(new.origin, expected);
        assert_eq!(new.tx_packets, 2);
    }
}

#[test]
fn flows_leave_an_unusable_tunnel_and_no_other() {
    needs_root!("flows_leave_an_unusable_tunnel_and_no_other");
    for (admin, health) in [(Admin::Active, Health::Down), (Admin::Disabled, Health::Up)] {
        let mut pair = Pair::new(1_024).expect("the world");
        for flow in 0..100 {
            pair.send(&lan(&frame(flow, "A"))).expect("alike");
        }
        let ifindex = pair.devices.tunnels[0];
        pair.set_tunnel(0, world::tunnel(ifindex, admin, health))
            .expect("set");
        for flow in 0..100 {
            let frame = frame(flow, "A");
            let before = entry(&pair, &frame);
            pair.send(&lan(&frame)).expect("alike");
            let after = entry(&pair, &frame);
            assert_eq!(after.tunnel, 1);
            assert_eq!(before.tunnel == 0, after.origin == Origin::Moved);
        }
    }
}

/// Where marks choose, what comes from a tunnel's own address is led to that tunnel if it is in use, and
/// nothing else is touched; and it is nobody's flow.
#[test]
fn what_a_tunnel_sends_itself_leaves_by_it() {
    needs_root!("what_a_tunnel_sends_itself_leaves_by_it");
    let mut pair = Pair::new(16).expect("the world");
    let is_led = |pair: &Pair, src: &str, device| {
        let src = src.parse().expect("an address");
        let sent = build::arrival(&Recipe {
            ip: if matches!(src, IpAddr::V4(_)) { 4 } else { 6 },
            src: Some(src),
            device: Some(device),
            ..recipe(Hook::Egress, 0, "A")
        });
        let ran = pair.kernel.own(&pair.devices, &sent).expect("a run");
        assert_eq!(ran.bytes, sent.bytes, "{src} on tunnel {device}");
        ran.redirected
    };
    // Devices 0 and 1 are of one group, 2 is of another.
    for (src, devices) in [
        ("10.2.8.0", [false, true, false]),
        ("10.2.8.1", [true, false, false]),
        ("fd00:2::8:0", [false, true, false]),
        ("fd00:2::8:1", [true, false, false]),
        // Of the LAN device; a host on the LAN; an endpoint.
        ("10.1.0.1", [false; 3]),
        ("10.1.0.2", [false; 3]),
        ("fd00:1::2", [false; 3]),
        ("10.2.9.0", [false; 3]),
    ] {
        let found = [0, 1, 2].map(|device| is_led(&pair, src, device));
        assert_eq!(found, devices, "{src}");
    }
    let ifindex = pair.devices.tunnels[0];
    for (admin, health, wanted) in [
        (Admin::Drain, Health::Up, true),
        (Admin::Active, Health::Down, false),
        (Admin::Disabled, Health::Up, false),
    ] {
        pair.set_tunnel(0, world::tunnel(ifindex, admin, health))
            .expect("set");
        assert_eq!(is_led(&pair, "10.2.8.0", 1), wanted, "{admin:?} {health:?}");
    }
    assert_eq!(pair.kernel.flow_count().expect("the map"), 0);
}

/// The device's MTU of this moment counts, and merged segments are left alone when one is too big.
#[test]
fn the_devices_mtu_is_the_limit() {
    needs_root!("the_devices_mtu_is_the_limit");
    let mut pair = Pair::new(16).expect("the world");
    let mut recipe = recipe(Hook::Lan, 0, "A");
    recipe.payload = 1_000 - 40;
    let fits = build::packet(&recipe);
    pair.send(&lan(&fits)).expect("alike");
    let tunnel = entry(&pair, &fits).tunnel;
    let name = world::DEVICES[tunnel as usize];
    netns::ip(&["link", "set", name, "mtu", "999"]).expect("a smaller MTU");
    // A cached answer may be used for a tick.
    thread::sleep(TICK);
    let ran = pair.kernel.ingress(&pair.devices, &fits).expect("a run");
    assert!(!ran.redirected);
    let passed = pair.kernel.pass_counters().expect("counters");
    assert_eq!(passed[PassReason::TooBig as usize], 1);
    assert_eq!(entry(&pair, &fits).tunnel, tunnel, "and the flow stays");

    // Without the offsets of a real merged packet, the kernel finds no segment that fits.
    recipe.payload = 3_000;
    recipe.gso_size = MTU;
    let merged = build::arrival(&recipe);
    let ran = pair.kernel.arrive(&pair.devices, &merged).expect("a run");
    assert!(!ran.redirected);
    let passed = pair.kernel.pass_counters().expect("counters");
    assert_eq!(passed[PassReason::TooBig as usize], 2);
}

/// What a program may be at most: instructions that the verifier walks, of a million that it walks
/// before it gives up; bytes of its own instructions; bytes of machine code. A quarter more than it is.
const BUDGETS: [(&str, [u32; 3]); 10] = [
    (programs::INGRESS, [280_000, 42_500, 24_000]),
    (programs::INGRESS_L3, [215_000, 41_500, 23_500]),
    (programs::MARK, [280_000, 41_000, 23_000]),
    (programs::MARK_L3, [215_000, 40_000, 22_500]),
    (programs::EGRESS, [215_000, 47_000, 27_000]),
    (programs::LEARN, [165_000, 32_000, 18_000]),
    (programs::RETURN, [172_000, 35_000, 20_000]),
    (programs::OWN, [530, 2_450, 1_320]),
    (programs::MOVE, [2_500, 5_000, 2_850]),
    (REDIRECT, [20, 200, 200]),
];

#[test]
fn the_programs_are_small() {
    needs_root!("the_programs_are_small");
    let pair = Pair::new(16).expect("the world");
    println!(
        "{:18} {:>9} {:>9} {:>9}",
        "program", "verified", "bytes", "machine"
    );
    let mut over = Vec::new();
    for (name, budget) in BUDGETS {
        let info = pair.kernel.info(name).expect("the program's info");
        // A kernel before 5.16 does not count what it verified.
        let sizes = [
            info.verified_instruction_count().unwrap_or(0),
            info.size_translated().unwrap_or(0),
            info.size_jitted(),
        ];
        let [verified, translated, jited] = sizes;
        println!("{name:18} {verified:9} {translated:9} {jited:9}");
        if sizes.iter().zip(budget).any(|(size, most)| *size > most) {
            over.push(format!("{name}: {sizes:?}, at most {budget:?}"));
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
    let listed = BUDGETS.map(|(name, _)| name);
    assert!(programs::ALL.iter().all(|name| listed.contains(name)));
}

/// Release objects carry no per-packet log.
#[test]
fn the_release_object_does_not_log() {
    let object = steer_user::datapath::object::OBJECT;
    let logs = object
        .windows(b"AYA_LOGS".len())
        .any(|window| window == b"AYA_LOGS");
    assert_eq!(logs, cfg!(debug_assertions));
}
