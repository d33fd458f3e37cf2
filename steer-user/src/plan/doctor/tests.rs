use std::time::Duration;

use steer_common::abi::{
    Admin, AttachKind, Health, HealthReason, HookKind, HookMode, PassReason, TunnelId,
};

use super::super::{Forwarding, Machine, MarkMask, Marks, PlanError};
use super::*;
use crate::net::sysctl::RpFilter;
use crate::net::{
    Device, DeviceSet, Devices, Family, Finding as Does, FindingKind, KernelRoute, Master,
    MasterKind, Netfilter, PacketFamily, Peer, Rule, RuleAction, TunnelRoute, WireGuard,
};
use crate::sys::Capabilities;

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
            ..WireGuard::default()
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
        admin: Admin::Active,
        admin_secs: None,
        health: Health::Up,
        reason: HealthReason::Answering,
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

#[test]
fn kernels() {
    let mut told = Vec::new();
    told.push(fails("kernel", AS_THEY_ARE, |f| {
        f.host.release = "5.10.0-30".into()
    }));
    told.push(fails("capabilities", AS_THEY_ARE, |f| {
        f.host.capabilities = Capabilities::parse("CapEff:\t0\n").expect("none");
    }));
    told.push(fails("programs", AS_THEY_ARE, |f| {
        f.host.programs = Some(Err("loading program steer_ingress failed".into()));
    }));
    told.push(warns("jit", AS_THEY_ARE, |f| {
        f.host.programs = Some(Ok(Loaded {
            jitted: false,
            tcx: true,
        }));
    }));
    told.push(fails("attach", AS_THEY_ARE, |f| {
        f.host.programs = Some(Ok(Loaded {
            jitted: true,
            tcx: false,
        }));
        f.other_qdiscs = vec![("wg1".into(), "ingress".into())];
    }));
    // TCX does not mind.
    let with_tcx = found("attach", AS_THEY_ARE, |f| {
        f.other_qdiscs = vec![("wg1".into(), "ingress".into())];
    });
    assert_eq!(with_tcx[0].level, Level::Ok);
    told.push(fails("bpffs", AS_THEY_ARE, |f| {
        f.host.pin_place = PinPlace::Mountable;
        // CAP_NET_ADMIN and CAP_BPF.
        f.host.capabilities = Capabilities::parse("CapEff:\t8000001000\n").expect("two");
    }));
    told.push(fails("bpffs", AS_THEY_ARE, |f| {
        f.host.pin_place = PinPlace::Impossible("/tmp/x: there is something else in it".into());
    }));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_pinned() {
    let mut told = Vec::new();
    told.push(fails("pins", AS_THEY_ARE, |f| f.pins = Pins::Unfinished));
    told.push(fails("pins", AS_THEY_ARE, |f| {
        f.pins = Pins::Unusable("of another layout".into(), Some("start over".into()));
    }));
    told.push(warns("daemon", AS_THEY_ARE, |f| {
        f.pins = Pins::Steering { daemon: None }
    }));
    told.push(fails("discovery", AS_THEY_ARE, |f| {
        nothing_is_pinned(f);
        f.steered.undiscovered = Some(PlanError::NothingDiscovered {
            down: vec!["wg0".into()],
        });
    }));
    // Without CAP_NET_ADMIN nobody can know.
    let blind = found("discovery", AS_THEY_ARE, |f| {
        nothing_is_pinned(f);
        f.host.capabilities = Capabilities::parse("CapEff:\t0\n").expect("none");
        f.steered.undiscovered = Some(PlanError::NothingDiscovered { down: Vec::new() });
    });
    assert_eq!(blind, []);
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn hooks() {
    let mut told = Vec::new();
    told.push(fails("hooks", AS_THEY_ARE, |f| {
        f.hooks[0].state = HookState::Missing
    }));
    told.push(fails("hooks", AS_THEY_ARE, |f| {
        f.hooks[1].state = HookState::Replaced { by: 9 }
    }));
    told.push(warns("other_programs", AS_THEY_ARE, |f| {
        f.hooks[0].before = vec![
            "TCX program 5 (tap)".into(),
            "flower filter of priority 1".into(),
        ];
    }));
    told.push(fails("other_steer", AS_THEY_ARE, |f| {
        f.hooks[2].other_steer = Some(12)
    }));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn tunnels() {
    let mut told = Vec::new();
    told.push(fails("tunnel_devices", |d| d[2].up = false, AS_IS));
    told.push(fails("tunnel_devices", |d| drop(d.remove(3)), AS_IS));
    told.push(fails("tunnel_devices", |d| d[2].layer3 = false, AS_IS));
    told.push(warns("group_usable", |d| d[2].up = false, AS_IS));
    told.push(fails(
        "group_usable",
        |d| d[2].up = false,
        |f| {
            f.steered.tunnels[1].admin = Admin::Disabled;
        },
    ));
    told.push(warns("tunnel_admin", AS_THEY_ARE, |f| {
        f.steered.tunnels[1].admin = Admin::Drain;
        f.steered.tunnels[1].admin_secs = Some(200_000);
    }));
    let lately = found("tunnel_admin", AS_THEY_ARE, |f| {
        f.steered.tunnels[1].admin = Admin::Disabled;
        f.steered.tunnels[1].admin_secs = Some(61);
    });
    assert_eq!(lately[0].level, Level::Ok);
    assert_eq!(lately[0].message, "disabled by the operator for 1m 1s");
    told.push(fails("tunnel_health", AS_THEY_ARE, |f| {
        f.steered.tunnels[0].health = Health::Down;
        f.steered.tunnels[0].reason = HealthReason::NotAnswering;
    }));
    told.push(warns("tunnel_health", AS_THEY_ARE, |f| {
        f.steered.tunnels[0].health = Health::Degraded;
        f.steered.tunnels[0].reason = HealthReason::Lossy;
        f.steered.tunnels[0].health_secs = None;
    }));
    // A tunnel that is not to be used need not work.
    let disabled = found("tunnel_health", AS_THEY_ARE, |f| {
        f.steered.tunnels[0].health = Health::Down;
        f.steered.tunnels[0].admin = Admin::Disabled;
    });
    assert_eq!(disabled[0].level, Level::Ok);
    insta::assert_snapshot!(told.join("\n"));
}

fn peer(device: &mut Device) -> &mut Peer {
    &mut device.wireguard.as_mut().expect("WireGuard").peers[0]
}

#[test]
fn wireguard() {
    let mut told = Vec::new();
    told.push(fails(
        "wireguard_peers",
        |d| d[2].wireguard = Some(WireGuard::default()),
        AS_IS,
    ));
    told.push(warns(
        "wireguard_peers",
        |d| peer(&mut d[2]).endpoint = None,
        AS_IS,
    ));
    told.push(warns(
        "handshakes",
        |d| peer(&mut d[2]).latest_handshake = None,
        AS_IS,
    ));
    told.push(warns("handshakes", AS_THEY_ARE, |f| {
        f.now += Duration::from_secs(80)
    }));
    // A clock that was set back makes no old handshake.
    let earlier = found("handshakes", AS_THEY_ARE, |f| {
        f.now = Duration::from_secs(1)
    });
    assert_eq!(earlier[0].level, Level::Ok);
    told.push(fails(
        "allowed_ips",
        |d| {
            peer(&mut d[3]).allowed_ips = vec![
                "10.9.1.2/32".parse().expect("net"),
                "10.2.0.0/17".parse().expect("net"),
            ];
        },
        AS_IS,
    ));
    // Halves are as good as the whole.
    let halves = found(
        "allowed_ips",
        |d| {
            peer(&mut d[3]).allowed_ips = ["10.2.0.0/17", "10.2.128.0/17", "fd00::/8"]
                .map(|net| net.parse().expect("net"))
                .to_vec();
        },
        AS_IS,
    );
    assert_eq!(halves[0].level, Level::Ok);
    told.push(warns(
        "allowed_ips_overlap",
        |d| {
            let other = Peer {
                allowed_ips: vec!["10.2.3.0/24".parse().expect("net")],
                ..Peer::default()
            };
            d[3].wireguard
                .as_mut()
                .expect("WireGuard")
                .peers
                .push(other);
        },
        AS_IS,
    ));
    // What is not steered may go where it likes.
    let elsewhere = found(
        "allowed_ips_overlap",
        |d| {
            peer(&mut d[3])
                .allowed_ips
                .push("10.7.0.0/16".parse().expect("net"));
            let other = Peer {
                allowed_ips: vec!["10.7.3.0/24".parse().expect("net")],
                ..Peer::default()
            };
            d[3].wireguard
                .as_mut()
                .expect("WireGuard")
                .peers
                .push(other);
        },
        AS_IS,
    );
    assert_eq!(elsewhere[0].level, Level::Ok);
    told.push(warns(
        "far_device",
        |d| peer(&mut d[3]).public_key = [1; 32],
        AS_IS,
    ));
    told.push(warns("threaded_napi", AS_THEY_ARE, |f| {
        f.threaded[1].1 = false
    }));
    assert_eq!(
        found("threaded_napi", AS_THEY_ARE, |f| drop(f.threaded.pop())),
        [],
        "one tunnel"
    );
    assert_eq!(
        found("threaded_napi", AS_THEY_ARE, |f| f.host.cpus = 1),
        [],
        "one processor"
    );
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn nat() {
    let mut told = Vec::new();
    let private: OnDevices = |d| d[1].addresses = vec!["192.168.1.2/24".parse().expect("net")];
    let without_probes: OnFacts = |f| f.pins = Pins::Steering { daemon: None };
    told.push(warns("keepalive", private, without_probes));
    assert_eq!(
        found("keepalive", private, AS_IS)[0].level,
        Level::Ok,
        "probes"
    );
    for (on_devices, why) in [
        (AS_THEY_ARE, "a public address"),
        (
            (|d| {
                d[1].addresses = vec![
                    "192.168.1.2/24".parse().expect("net"),
                    "192.0.2.2/24".parse().expect("net"),
                ];
            }) as OnDevices,
            "a public address, too",
        ),
        (
            |d| {
                d[1].addresses = vec!["100.64.0.2/24".parse().expect("net")];
                for index in [2, 3] {
                    peer(&mut d[index]).keepalive_secs = Some(25);
                }
            },
            "keepalive",
        ),
    ] {
        assert_eq!(
            found("keepalive", on_devices, without_probes)[0].level,
            Level::Ok,
            "{why}"
        );
    }
    let carrier: OnDevices = |d| d[1].addresses = vec!["100.64.0.2/24".parse().expect("net")];
    warns("keepalive", carrier, without_probes);
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn mtus() {
    let mut told = Vec::new();
    let narrow: OnDevices = |d| d[3].mtu_bytes = 1_380;
    told.push(fails("mtu_group", narrow, AS_IS));
    told.push(warns("mtu_group", narrow, nothing_is_pinned));
    assert_eq!(found("mtu_group", narrow, mark)[0].level, Level::Ok);
    told.push(fails("mtu_underlay", |d| d[2].mtu_bytes = 1_441, AS_IS));
    assert_eq!(
        found("mtu_underlay", |d| d[2].mtu_bytes = 1_440, AS_IS)[0].level,
        Level::Ok
    );
    told.push(fails(
        "mtu_underlay",
        |d| d[2].mtu_bytes = 1_421,
        |f| {
            f.underlay[0].endpoint = "[2001:db8::1]:51820".parse().expect("endpoint");
        },
    ));
    told.push(warns("mtu_underlay", AS_THEY_ARE, |f| {
        f.underlay[0].route = KernelRoute::None
    }));
    told.push(fails("ipv6", |d| d[2].mtu_bytes = 1_279, AS_IS));
    told.push(fails("ipv6", AS_THEY_ARE, |f| {
        f.sysctls.ipv6_off = vec!["wg1".into()]
    }));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn routes() {
    let mut told = Vec::new();
    let off: OnFacts = |f| f.forwarding.off = vec![Family::V4, Family::V6];
    told.push(warns("forwarding", AS_THEY_ARE, off));
    told.push(fails("forwarding", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Mark;
        f.forwarding.off = vec![Family::V6];
    }));
    told.push(warns("device_forwarding", AS_THEY_ARE, |f| {
        f.sysctls.not_forwarding = vec!["lan0.10".into()]
    }));
    fails("device_forwarding", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Egress;
        f.sysctls.not_forwarding = vec!["lan0".into()];
    });
    told.push(warns("routes", AS_THEY_ARE, |f| {
        f.forwarding.routes[0].1 = KernelRoute::None;
        f.forwarding.routes[1].1 = KernelRoute::None;
    }));
    told.push(fails("routes", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Egress;
        f.forwarding.routes[0].1 = KernelRoute::Devices(vec![2]);
    }));
    told.push(warns(
        "prefixes",
        |d| d[0].addresses.push("10.2.0.9/32".parse().expect("net")),
        AS_IS,
    ));
    told.push(warns(
        "prefixes",
        |d| peer(&mut d[3]).endpoint = "10.2.0.7:1".parse().ok(),
        AS_IS,
    ));
    told.push(fails("rp_filter", AS_THEY_ARE, |f| {
        f.forwarding.rp_filters[1].1.device = 1
    }));
    // The kernel's route is by this one.
    let own = found("rp_filter", AS_THEY_ARE, |f| {
        f.forwarding.rp_filters[0].1.device = 1
    });
    assert_eq!(own[0].level, Level::Ok);
    told.push(warns("rp_filter", AS_THEY_ARE, |f| {
        f.machine.strict = vec!["lan0".into()]
    }));
    insta::assert_snapshot!(told.join("\n"));
}

fn rule(pref: u32, mark: u32, mask: u32, action: RuleAction) -> Rule {
    Rule {
        family: Family::V4,
        pref,
        mark,
        mask,
        action,
        inverted: false,
        more: false,
        protocol: 3,
    }
}

#[test]
fn packet_marks() {
    let mut told = Vec::new();
    let uses: OnFacts = |f| {
        mark(f);
        f.machine
            .rules
            .push(rule(6_000, 0x0100_0000, 0xff00_0000, RuleAction::Lookup(7)));
    };
    told.push(fails("mark_users", AS_THEY_ARE, uses));
    told.push(warns(
        "mark_users",
        |d| d[2].wireguard.as_mut().expect("WireGuard").fwmark = Some(0x0200_0001),
        nothing_is_pinned,
    ));
    told.push(fails("mark_rules", AS_THEY_ARE, |f| {
        mark(f);
        f.machine.rules.remove(0);
    }));
    told.push(fails("mark_routes", AS_THEY_ARE, |f| {
        mark(f);
        f.tunnel_routes[2].ifindex = Some(99);
    }));
    for (before, is_told) in [
        (rule(0, 0, 0, RuleAction::Lookup(255)), false),
        (rule(100, 0, 0, RuleAction::Lookup(254)), true),
        (rule(100, 0, 0, RuleAction::Nop), false),
        (rule(6_000, 0, 0, RuleAction::Lookup(254)), false),
        (rule(100, 0xca6c, u32::MAX, RuleAction::Lookup(7)), false),
        (
            Rule {
                inverted: true,
                ..rule(100, 0xca6c, u32::MAX, RuleAction::Lookup(7))
            },
            true,
        ),
    ] {
        let devices = Devices::new(devices());
        let mut facts = facts(&devices);
        mark(&mut facts);
        facts.machine.rules.push(before.clone());
        let mut findings = examine(&facts);
        findings.retain(|finding| finding.check == "mark_shadowed");
        assert_eq!(findings[0].level == Level::Warn, is_told, "{before}");
    }
    told.push(warns("mark_shadowed", AS_THEY_ARE, |f| {
        mark(f);
        f.machine
            .rules
            .push(rule(100, 0, 0, RuleAction::Lookup(254)));
    }));
    told.push(fails("src_valid_mark", AS_THEY_ARE, |f| {
        mark(f);
        f.machine.strict = vec!["lan0".into()];
        f.sysctls.src_valid_mark = vec!["lan0".into()];
    }));
    told.push(fails("fwmark_reflect", AS_THEY_ARE, |f| {
        mark(f);
        f.sysctls.fwmark_reflect = vec![Family::V4];
    }));
    insta::assert_snapshot!(told.join("\n"));
}

fn filter(kind: FindingKind) -> Result<Netfilter, String> {
    Ok(Netfilter {
        findings: vec![Does {
            kind,
            family: PacketFamily::Both,
            place: "nft table inet filter, chain forward".into(),
        }],
    })
}

#[test]
fn netfilter_rules() {
    let mut told = Vec::new();
    told.push(warns("netfilter", AS_THEY_ARE, |f| {
        f.machine.netfilter = Err("not permitted".into())
    }));
    told.push(fails("bypassed", AS_THEY_ARE, |f| {
        f.machine.netfilter = filter(FindingKind::Stateful)
    }));
    told.push(warns("bypassed", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Egress;
        f.machine.netfilter = filter(FindingKind::SourceNat {
            may_leave_by: DeviceSet::Any,
        });
    }));
    let passed = found("bypassed", AS_THEY_ARE, |f| {
        mark(f);
        f.machine.netfilter = filter(FindingKind::Stateful);
    });
    assert_eq!(passed[0].level, Level::Ok);
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn lan() {
    let mut told = Vec::new();
    told.push(fails(
        "lan_devices",
        |d| {
            d[0].master = Some(Master {
                ifindex: 2,
                kind: MasterKind::Bridge,
            });
        },
        AS_IS,
    ));
    told.push(fails("lan_devices", |d| d[0].up = false, AS_IS));
    told.push(fails("lan_devices", |d| drop(d.remove(0)), AS_IS));
    told.push(fails("lro", AS_THEY_ARE, |f| f.lro = vec!["lan0".into()]));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn traffic() {
    let mut told = Vec::new();
    told.push(warns("flow_table", AS_THEY_ARE, |f| {
        f.traffic.as_mut().expect("counted").entries = 90
    }));
    told.push(warns("flow_table", AS_THEY_ARE, |f| {
        f.traffic.as_mut().expect("counted").full_packets = 3
    }));
    let counts: [(PassReason, u64, u64, bool); 5] = [
        (PassReason::NoTunnel, 100, 10_000, true),
        (PassReason::NoTunnel, 99, 0, false),
        (PassReason::NoTunnel, 100, 10_001, false),
        (PassReason::NotSteered, 1_000_000, 0, false),
        (PassReason::BadChecksum, u64::MAX, u64::MAX, true),
    ];
    for (reason, count, steered_packets, is_told) in counts {
        let devices = Devices::new(devices());
        let mut facts = facts(&devices);
        facts.traffic = Some(Traffic {
            capacity: 100,
            steered_packets,
            passed: vec![(reason, count)],
            ..Traffic::default()
        });
        let mut findings = examine(&facts);
        findings.retain(|finding| finding.check == "passed");
        assert_eq!(
            findings[0].level == Level::Warn,
            is_told,
            "{reason:?} {count}"
        );
    }
    told.push(warns("passed", AS_THEY_ARE, |f| {
        f.traffic.as_mut().expect("counted").passed = vec![(PassReason::UnknownVlan, 200)]
    }));
    insta::assert_snapshot!(told.join("\n"));
}
