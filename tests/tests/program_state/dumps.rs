//! What `bpftool` prints of every map.

use std::path::Path;

use steer_common::{
    abi::{
        AttachKind, Cause, Event, EventKind, Fragment, FragmentKey, HealthReason, Hook, HookKey,
        HookKind, HookOrder, Membership, MembershipKey, MoveRecord, NAME_BYTES, TunnelHealth, maps,
    },
    key::mapped,
};
use steer_tests::{
    packets::world,
    program::{bpftool, compare::Pair, moves::packet_of, netns},
};

use super::{entry, frame, key};

/// What people read in a dump: names, not hexadecimal digits.
#[test]
fn dumps_are_readable() {
    needs_root!("dumps_are_readable");
    if !bpftool::exists() {
        println!("SKIP dumps_are_readable: needs bpftool");
        return;
    }
    let mut pair = Pair::new(16).expect("the world");
    pair.kernel
        .ingress(&pair.devices, &frame(0, "S"))
        .expect("a run");
    pair.kernel
        .ingress(&pair.devices, &frame(1, "FA"))
        .expect("a run");
    let first = entry(&pair, &frame(1, "FA")).tunnel;
    let record = MoveRecord {
        key: key(&frame(1, "FA")),
        from: first.into(),
        to: (1 - first).into(),
    };
    assert_eq!(
        pair.kernel.run_move(&packet_of(&[record])).expect("a run"),
        1
    );
    let datagram = FragmentKey {
        src_addr: mapped([10, 1, 0, 2]),
        dst_addr: mapped([10, 2, 0, 2]),
        identification: 4_660,
        protocol: 17,
    };
    let first = Fragment {
        seen_ns: 1,
        src_port: 40_000,
        dst_port: 53,
        protocol: 17,
    };
    pair.kernel
        .set_fragment(&datagram, &first)
        .expect("a fragment");
    write_what_only_userspace_reads(&mut pair);
    let ids = pair.kernel.map_ids().expect("the maps");
    let expected: [(&str, &[&str]); 20] = [
        (
            maps::SETTINGS,
            &["\"abi_version\": 4", "\"idle_udp_ns\": 300000000000"],
        ),
        (maps::GROUPS, &["\"placement\": \"Absent\""]),
        (maps::PREFIXES, &["\"prefix_len\": 112", "\"group\": 0"]),
        (
            maps::TUNNELS,
            &["\"admin\": \"Drain\"", "\"health\": \"Down\""],
        ),
        (maps::TUNNEL_INFO, &["\"weight\": 0"]),
        (maps::TUNNEL_DEVICES, &["\"tunnel\": 3"]),
        (
            maps::FLOWS,
            &[
                "\"low_port\": 1000",
                "\"origin\": \"Hashed\"",
                "\"local\": \"Low\"",
                "\"placer\": \"Near\"",
                "\"phase\": \"Closing\"",
            ],
        ),
        (
            maps::TUNNEL_COUNTERS,
            &["\"new_flows\": 2", "\"table_full\": 0"],
        ),
        (maps::PASS_COUNTERS, &["\"too_many_headers\": 0"]),
        (maps::COUNTERS, &["\"clamped_mss\": 0"]),
        (
            maps::FRAGMENTS,
            &["\"identification\": 4660", "\"dst_port\": 53"],
        ),
        (maps::ADDRESSES, &["\"kind\": \"Own\""]),
        (maps::LAN_DEVICES, &["\"link_layer\": \"Ethernet\""]),
        (maps::VLANS, &["\"protocol\": 33024", "\"id\": 10"]),
        (maps::BUCKET_TABLES, &["\"buckets\": ["]),
        (
            maps::HOOKS,
            &["\"kind\": \"Ingress\"", "\"attach\": \"ClsactOwned\""],
        ),
        (maps::MEMBERSHIPS, &["\"weight\": 3"]),
        (maps::TUNNEL_HEALTH, &["\"reason\": \"Answering\""]),
        (
            maps::EVENTS,
            &["\"kind\": \"HealthChanged\"", "\"cause\": \"Daemon\""],
        ),
        (
            maps::MOVES,
            &["\"reason\": \"Rebalanced\"", "\"low_port\": 1001"],
        ),
    ];
    for name in maps::ALL {
        assert!(expected.iter().any(|(listed, _)| *listed == name), "{name}");
    }
    for (name, wanted) in expected {
        let text = bpftool::dump(ids[name]).expect("a dump");
        for part in wanted {
            assert!(text.contains(part), "{name}: no {part} in\n{}", head(&text));
        }
        for bad in ["0x", "key: ", "value: "] {
            assert!(!text.contains(bad), "{name}: {bad} in\n{}", head(&text));
        }
        assert_outline(name, &text);
    }
    let mapped = mapped([10, 1, 0, 2]).map(|byte| byte.to_string()).join(",");
    let flows = bpftool::dump(ids[maps::FLOWS]).expect("a dump");
    let digits: String = flows.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(digits.contains(&mapped), "{flows}");
}

fn write_what_only_userspace_reads(pair: &mut Pair) {
    let hook = HookKey {
        ifindex: pair.devices.lan,
        kind: HookKind::Ingress,
    };
    let attached = Hook {
        name: [0; NAME_BYTES],
        attach: AttachKind::ClsactOwned,
        program_id: 0,
        group: 0,
        order: HookOrder::Last,
    };
    pair.kernel.set_hook(&hook, &attached).expect("a hook");
    let member = MembershipKey {
        group: world::MORE_OF_1.into(),
        tunnel: 1,
    };
    pair.kernel
        .set_membership(&member, Membership { weight: 3 })
        .expect("a membership");
    let health = TunnelHealth {
        since_ns: 1,
        probed_ns: 2,
        rtt_us: 21_000,
        jitter_us: 900,
        loss_ppm: 0,
        reason: HealthReason::Answering,
        answered_by: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 9, 0, 2],
    };
    pair.kernel.set_tunnel_health(0, &health).expect("health");
    let event = Event {
        seq: 4_096,
        after: 1,
        reason: HealthReason::Answering,
        ..Event::new(EventKind::HealthChanged, Cause::Daemon)
    };
    pair.kernel.set_event(0, &event).expect("an event");
}

/// Compares with `tests/dumps/NAME.json`; `UPDATE_GENERATED=1` rewrites it.
fn assert_outline(name: &str, dump: &str) {
    let outline = bpftool::outline(dump).expect(name);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("dumps/{name}.json"));
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &outline).expect("the snapshot");
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        outline, stored,
        "{name}: if it is meant to change: UPDATE_GENERATED=1"
    );
}

fn head(text: &str) -> String {
    text.lines().take(60).collect::<Vec<_>>().join("\n")
}
