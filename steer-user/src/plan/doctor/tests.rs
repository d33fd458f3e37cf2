use std::time::Duration;

use steer_common::abi::{
    Admin, AttachKind, Health, HealthReason, HookKind, HookMode, PassReason, TunnelHealth, TunnelId,
};

use super::super::{Forwarding, Machine, MarkMask, Marks, PlanError};
use super::*;
use crate::net::sysctl::RpFilter;
use crate::net::{
    Device, DeviceSet, Devices, Family, Finding as Does, FindingKind, IpsecPolicy, KernelRoute,
    Master, MasterKind, Netfilter, PacketFamily, Peer, Rule, RuleAction, TunnelRoute, WireGuard,
};
use crate::sys::Capabilities;

mod control;
mod machine;
mod routing;
mod wireguard;

const NOW_SECS: u64 = 1_800_000_000;

fn tunnel_device(id: u32) -> Device {
    Device {
        ifindex: 3 + id,
        name: format!("wg{id}"),
        mtu_bytes: 1_420,
        up: true,
        layer3: true,
        kind: Some("wireguard".into()),
        addresses: vec![format!("10.9.{id}.1/30").parse().expect("net")],
        wireguard: Some(WireGuard {
            fwmark: None,
            peers: vec![Peer {
                public_key: [u8::try_from(id).expect("few") + 1; 32],
                endpoint: "192.0.2.1:51820".parse().ok(),
                allowed_ips: ["10.2.0.0/16", "fd00:2::/64"]
                    .map(|net| net.parse().expect("net"))
                    .to_vec(),
                latest_handshake: Some(Duration::from_secs(NOW_SECS - 100)),
                ..Peer::default()
            }],
        }),
        ..Device::default()
    }
}

/// `lan0`, `wan0` (192.0.2.2), `wg0` and `wg1`.
fn devices() -> Vec<Device> {
    let ethernet = |ifindex, name: &str, address: &str| Device {
        ifindex,
        name: name.into(),
        mtu_bytes: 1_500,
        up: true,
        addresses: vec![address.parse().expect("net")],
        ..Device::default()
    };
    vec![
        ethernet(1, "lan0", "10.1.0.1/24"),
        ethernet(2, "wan0", "192.0.2.2/24"),
        tunnel_device(0),
        tunnel_device(1),
    ]
}

fn marks() -> Marks {
    Marks {
        mask: MarkMask::DEFAULT,
        slot: 1,
    }
}

/// A gateway on which nothing is wrong, whatever the mode.
fn facts(devices: &Devices) -> Facts<'_> {
    let prefixes: Vec<ipnet::IpNet> = ["10.2.0.0/16", "fd00:2::/64"]
        .map(|net| net.parse().expect("net"))
        .to_vec();
    let tunnel = |id: TunnelId| SteeredTunnel {
        name: format!("wg{id}"),
        id,
        weight: 1,
        tier: 0,
        admin: Admin::Active,
        admin_secs: None,
        health: Health::Up,
        told: TunnelHealth {
            reason: HealthReason::Answering,
            ..TunnelHealth::default()
        },
        health_secs: Some(7_300),
    };
    let loose = RpFilter { all: 0, device: 2 };
    let hook = |kind, device: &str| HookFacts {
        kind,
        device: device.into(),
        state: HookState::Attached(AttachKind::Tcx),
        before: Vec::new(),
        other_steer: None,
    };
    Facts {
        host: Host {
            release: "6.18.5".into(),
            capabilities: Capabilities::parse("CapEff:\tffffffffffffffff\n").expect("all"),
            programs: Some(Ok(Loaded {
                jitted: true,
                tcx: true,
            })),
            pin_place: PinPlace::Bpffs,
            cpus: 4,
        },
        pins: Pins::Steering { daemon: Some(7) },
        config: ConfigFacts::Absent {
            path: "/etc/steer/steer.toml".into(),
        },
        machine: Machine {
            devices,
            netfilter: Ok(Netfilter::default()),
            strict: Vec::new(),
            rules: marks().rules([0, 1]).iter().map(Rule::from).collect(),
            memory_bytes: 1 << 30,
        },
        hooks: vec![
            hook(HookKind::Ingress, "lan0"),
            hook(HookKind::Learn, "wg0"),
            hook(HookKind::Egress, "wg0"),
        ],
        xdp: Vec::new(),
        ipsec: Vec::new(),
        probe_targets: vec![("wg0".into(), [10, 9, 0, 2].into())],
        other_qdiscs: Vec::new(),
        forwarding: Forwarding {
            off: Vec::new(),
            routes: prefixes
                .iter()
                .map(|prefix| (*prefix, KernelRoute::Devices(vec![3])))
                .collect(),
            rp_filters: vec![("wg0".into(), loose), ("wg1".into(), loose)],
        },
        sysctls: Sysctls::default(),
        underlay: ["wg0", "wg1"]
            .map(|tunnel| Underlay {
                tunnel: tunnel.into(),
                endpoint: "192.0.2.1:51820".parse().expect("endpoint"),
                route: KernelRoute::Devices(vec![2]),
            })
            .to_vec(),
        threaded: vec![("wg0".into(), true), ("wg1".into(), true)],
        lro: Vec::new(),
        tunnel_routes: [
            (Family::V4, 0),
            (Family::V6, 0),
            (Family::V4, 1),
            (Family::V6, 1),
        ]
        .map(|(family, id): (_, TunnelId)| TunnelRoute {
            family,
            table: marks().table(id),
            ifindex: Some(3 + u32::from(id)),
        })
        .to_vec(),
        traffic: Some(Traffic {
            entries: 10,
            capacity: 100,
            full_packets: 0,
            steered_packets: 1_000,
            passed: PassReason::ALL.iter().map(|reason| (*reason, 5)).collect(),
        }),
        now: Duration::from_secs(NOW_SECS),
        steered: Steered {
            mode: HookMode::Ingress,
            marks: None,
            lan: vec!["lan0".into()],
            groups: vec![SteeredGroup {
                name: "default".into(),
                home: "default".into(),
                follows_routes: false,
                prefixes,
                tunnels: vec![0, 1],
            }],
            tunnels: vec![tunnel(0), tunnel(1)],
            undiscovered: None,
        },
    }
}

type OnDevices = fn(&mut Vec<Device>);
type OnFacts = fn(&mut Facts<'_>);

const AS_THEY_ARE: OnDevices = |_| {};
const AS_IS: OnFacts = |_| {};

/// What a check finds on the gateway, changed.
fn found(check: &str, on_devices: OnDevices, on_facts: OnFacts) -> Vec<Finding> {
    let mut all = devices();
    on_devices(&mut all);
    let devices = Devices::new(all);
    let mut facts = facts(&devices);
    on_facts(&mut facts);
    let mut findings = examine(&facts);
    findings.retain(|finding| finding.check == check);
    findings
}

/// The first finding of a level, which the check does not have on the gateway as it is, in this mode.
fn first(level: Level, check: &str, on_devices: OnDevices, on_facts: OnFacts) -> String {
    assert!(CHECKS.iter().any(|known| known.name == check), "{check}");
    let findings = found(check, on_devices, on_facts);
    let Some(finding) = findings.iter().find(|finding| finding.level == level) else {
        panic!("{check}: {findings:?}");
    };
    let fix = finding
        .fix
        .as_deref()
        .unwrap_or_else(|| panic!("{check}: no fix"));
    format!(
        "{} {check}: {}: {}\n    fix: {fix}",
        level.name(),
        finding.subject,
        finding.message
    )
}

fn fails(check: &str, on_devices: OnDevices, on_facts: OnFacts) -> String {
    first(Level::Fail, check, on_devices, on_facts)
}

fn warns(check: &str, on_devices: OnDevices, on_facts: OnFacts) -> String {
    first(Level::Warn, check, on_devices, on_facts)
}

/// Marks packets, by the rules and routes that are there.
fn mark(facts: &mut Facts<'_>) {
    facts.steered.mode = HookMode::Mark;
    facts.steered.marks = Some(marks());
}

/// As before a start.
fn nothing_is_pinned(facts: &mut Facts<'_>) {
    facts.pins = Pins::None;
    facts.steered.mode = HookMode::Unset;
    facts.steered.lan.clear();
    facts.hooks.clear();
    facts.machine.rules.clear();
    facts.traffic = None;
}

fn peer(device: &mut Device) -> &mut Peer {
    &mut device.wireguard.as_mut().expect("WireGuard").peers[0]
}

#[test]
fn nothing_is_wrong() {
    let modes: [OnFacts; 4] = [
        AS_IS,
        |facts| facts.steered.mode = HookMode::Egress,
        mark,
        nothing_is_pinned,
    ];
    for (number, mode) in modes.into_iter().enumerate() {
        let devices = Devices::new(devices());
        let mut facts = facts(&devices);
        mode(&mut facts);
        let findings = examine(&facts);
        let wrong: Vec<_> = findings.iter().filter(|f| f.level != Level::Ok).collect();
        assert!(wrong.is_empty(), "{number}: {wrong:?}");
        assert!(findings.is_sorted_by_key(|finding| finding.section));
        assert!(findings.iter().all(|finding| finding.fix.is_none()));
    }
}

#[test]
fn the_worst_is_first() {
    let devices = Devices::new(devices());
    let mut facts = facts(&devices);
    facts.steered.tunnels[1].health = Health::Degraded;
    facts.steered.tunnels[0].health = Health::Down;
    let findings = examine(&facts);
    let of_tunnels: Vec<Level> = findings
        .iter()
        .filter(|finding| finding.section == Section::Tunnels)
        .map(|finding| finding.level)
        .collect();
    assert!(of_tunnels.is_sorted_by(|a, b| a >= b), "{of_tunnels:?}");
    assert_eq!((of_tunnels[0], of_tunnels[1]), (Level::Fail, Level::Warn));
}

#[test]
fn every_check_is_described_once() {
    for (index, check) in CHECKS.iter().enumerate() {
        assert!(
            check.fails.is_some() || check.warns.is_some(),
            "{}",
            check.name
        );
        let is_same = |other: &Check| other.name == check.name;
        assert!(!CHECKS[..index].iter().any(is_same), "{}", check.name);
    }
}
