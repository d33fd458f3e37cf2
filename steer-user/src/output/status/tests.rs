//! A fixed sample as table and JSON, and what stands out.

use super::super::json;
use steer_common::abi::PassCounters;

use super::*;

fn tunnel(id: u8) -> TunnelReport {
    TunnelReport {
        name: format!("wg{id}"),
        id,
        ifindex: Some(7 + u32::from(id)),
        weight: 1,
        share: 0.5,
        admin: "active".into(),
        health: "up".into(),
        health_reason: Some("its far end answers".into()),
        mtu: Some(1_420),
        flows: 12,
        tx_packets: 1_000,
        tx_bytes: 1_234_567,
        rx_packets: 900,
        rx_bytes: 98_765,
        new_flows: 40,
        moved_in: 0,
        moved_out: 2,
        rtt_ms: Some(12.34),
        jitter_ms: Some(0.5),
        loss: Some(0.03),
        handshake_age_secs: Some(75),
        tier: 0,
        share_min: 0.5,
        share_max: 0.5,
    }
}

fn sample() -> StatusReport {
    let hook = |iface: &str, ifindex, hook: &str| HookReport {
        iface: iface.into(),
        ifindex,
        hook: hook.into(),
        attach: "tcx".into(),
        program_id: Some(41),
    };
    StatusReport {
        version: "0.1.0".into(),
        abi: Some(1),
        pin_dir: "/sys/fs/bpf/steer".into(),
        kernel: Some("6.18.5".into()),
        hook: "ingress".into(),
        mss_clamp: "mtu".into(),
        mark_mask: Some(0xff00_0000),
        groups: vec![GroupReport {
            name: "default".into(),
            id: 0,
            prefixes: vec!["10.2.0.0/16".into(), "fd00:2::/64".into()],
            placement: "hash".into(),
            seed: u64::MAX,
            epoch: 3,
            hooks: vec![
                hook("lan0", 2, "ingress"),
                hook("wg0", 7, "egress"),
                hook("wg0", 7, "learn"),
                HookReport {
                    program_id: None,
                    ..hook("wg1", 8, "learn")
                },
            ],
            routes: None,
            tunnels: vec![
                TunnelReport {
                    share: 1.0,
                    share_min: 1.0,
                    share_max: 1.0,
                    ..tunnel(0)
                },
                TunnelReport {
                    share: 0.0,
                    share_min: 0.0,
                    share_max: 0.0,
                    health: "down".into(),
                    health_reason: Some("its device is down".into()),
                    rtt_ms: None,
                    jitter_ms: None,
                    loss: None,
                    handshake_age_secs: None,
                    ..tunnel(1)
                },
            ],
        }],
        passed: PassedReport::new(&PassCounters {
            not_steered: 120,
            ttl_expired: 3,
            ..PassCounters::default()
        }),
        counters: CountersReport {
            returned: 7,
            ..CountersReport::default()
        },
        flow_table: FlowTableReport {
            entries: 24,
            capacity: 65_536,
            full_packets: 0,
        },
    }
}

#[test]
fn for_people() {
    insta::assert_snapshot!(sample().render(Colour::Off));
}

#[test]
fn shares_by_prefix() {
    let mut report = sample();
    let tunnel = &mut report.groups[0].tunnels[0];
    (tunnel.share, tunnel.share_min, tunnel.share_max) = (0.5, 0.25, 0.75);
    let text = report.render(Colour::Off);
    assert!(text.contains("1  25.0 to 75.0 %  active"), "{text}");
    assert!(text.contains("1           0.0 %  active"), "{text}");
}

#[test]
fn tiers_are_shown_where_there_are_some() {
    let mut report = sample();
    assert!(!report.render(Colour::Off).contains("TIER"));
    report.groups[0].tunnels[1].tier = 1;
    let text = report.render(Colour::Off);
    assert!(text.contains("TUNNEL  ID  TIER  WEIGHT"), "{text}");
    assert!(text.contains("wg1      1     1       1"), "{text}");
}

#[test]
fn for_scripts() {
    insta::assert_snapshot!(json(&sample()).expect("JSON"));
}

#[test]
fn nothing_is_steered() {
    let empty = StatusReport {
        abi: None,
        groups: Vec::new(),
        ..sample()
    };
    insta::assert_snapshot!(empty.render(Colour::Off), @r"
    steer 0.1.0, kernel 6.18.5, pins in /sys/fs/bpf/steer

    nothing is steered
    ");
}

#[test]
fn what_is_wrong_stands_out() {
    let mut report = sample();
    report.flow_table = FlowTableReport {
        entries: 99,
        capacity: 100,
        full_packets: 5,
    };
    report.groups[0].tunnels[0].share = 0.0;
    report.groups[0].hooks.clear();
    let plain = report.render(Colour::Off);
    for warning in [
        "no tunnel takes new flows: they are left to the kernel",
        "steers what enters: nothing",
        "99 of 100 entries (99.0 %), was full: 5 packets placed by the hash alone (see --max-flows)",
    ] {
        assert!(plain.contains(warning), "{plain}");
    }
    assert!(!plain.contains('\x1b'));
    assert!(report.render(Colour::On).contains("\x1b[1;31mdown\x1b[0m"));
}
