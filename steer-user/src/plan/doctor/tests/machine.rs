//! The kernel, what is pinned, programs, netfilter, LAN devices, counters.

use super::*;

fn filter(kind: FindingKind) -> Netfilter {
    Netfilter {
        findings: vec![Does {
            kind,
            family: PacketFamily::Both,
            place: "nft table inet filter, chain forward".into(),
        }],
    }
}

#[test]
fn kernels() {
    let mut told = Vec::new();
    told.push(fails("kernel", AS_THEY_ARE, |f| {
        f.host.release = "5.10.0-30".into();
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
        f.hooks[0].state = HookState::Missing;
    }));
    told.push(fails("hooks", AS_THEY_ARE, |f| {
        f.hooks[1].state = HookState::Replaced { by: Some(9) }
    }));
    told.push(warns("other_programs", AS_THEY_ARE, |f| {
        f.hooks[0].before = vec![
            "TCX program 5 (tap)".into(),
            "flower filter of priority 1".into(),
        ];
    }));
    told.push(fails("other_steer", AS_THEY_ARE, |f| {
        f.hooks[2].other_steer = Some(12);
    }));
    told.push(warns("xdp", AS_THEY_ARE, |f| {
        f.xdp = vec![XdpFacts {
            device: "lan0".into(),
            program: "program 12 (shield)".into(),
            place: "xdpdrv",
        }];
    }));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn ipsec() {
    fn policy(source: &str, destination: &str) -> IpsecPolicy {
        IpsecPolicy {
            source: source.parse().expect("a prefix"),
            destination: destination.parse().expect("a prefix"),
            is_out: true,
        }
    }
    let mut told = Vec::new();
    // Within a prefix, around one, and of what comes back.
    told.push(fails("ipsec", AS_THEY_ARE, |f| {
        f.ipsec = vec![policy("10.1.0.0/16", "10.2.7.0/24")];
    }));
    told.push(fails("ipsec", AS_THEY_ARE, |f| {
        f.ipsec = vec![policy("::/0", "::/0")];
    }));
    told.push(fails("ipsec", AS_THEY_ARE, |f| {
        f.ipsec = vec![policy("10.2.0.0/16", "10.1.0.0/16")];
        f.steered.groups.push(SteeredGroup {
            name: "other".into(),
            home: "other".into(),
            ..f.steered.groups[0].clone()
        });
    }));
    insta::assert_snapshot!(told.join("\n"));
    let about_others = found("ipsec", AS_THEY_ARE, |f| {
        f.ipsec = vec![policy("10.1.0.0/16", "10.3.0.0/16")];
    });
    assert_eq!(about_others[0].level, Level::Ok);
    let by_the_kernel = found("ipsec", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Egress;
        f.ipsec = vec![policy("10.1.0.0/16", "10.2.0.0/16")];
    });
    assert_eq!(by_the_kernel, []);
}

#[test]
fn netfilter_rules() {
    let mut told = Vec::new();
    told.push(warns("netfilter", AS_THEY_ARE, |f| {
        f.machine.netfilter = Err("not permitted".into());
    }));
    told.push(fails("bypassed", AS_THEY_ARE, |f| {
        f.machine.netfilter = Ok(filter(FindingKind::Stateful));
    }));
    told.push(warns("bypassed", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Egress;
        f.machine.netfilter = Ok(filter(FindingKind::SourceNat {
            may_leave_by: DeviceSet::Any,
        }));
    }));
    let passed = found("bypassed", AS_THEY_ARE, |f| {
        mark(f);
        f.machine.netfilter = Ok(filter(FindingKind::Stateful));
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
        f.traffic.as_mut().expect("counted").entries = 90;
    }));
    told.push(warns("flow_table", AS_THEY_ARE, |f| {
        f.traffic.as_mut().expect("counted").full_packets = 3;
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
        f.traffic.as_mut().expect("counted").passed = vec![(PassReason::UnknownVlan, 200)];
    }));
    insta::assert_snapshot!(told.join("\n"));
}
