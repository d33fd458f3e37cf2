//! Tunnels, WireGuard in them, packet sizes.

use super::*;

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
        f.steered.tunnels[0].told.reason = HealthReason::NotAnswering;
    }));
    told.push(warns("tunnel_health", AS_THEY_ARE, |f| {
        f.steered.tunnels[0].health = Health::Degraded;
        f.steered.tunnels[0].told.reason = HealthReason::Lossy;
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

#[test]
fn groups_without_a_tunnel_for_new_flows() {
    // Routes lead to its prefixes by `wg1` alone, which is drained.
    let drained: OnFacts = |f| {
        f.steered.groups.push(SteeredGroup {
            name: "default over wg1".into(),
            tunnels: vec![1],
            ..f.steered.groups[0].clone()
        });
        f.steered.tunnels[1].admin = Admin::Drain;
    };
    assert_eq!(
        warns("group_usable", AS_THEY_ARE, drained),
        "warn group_usable: group default over wg1: none of its tunnels takes new flows: they are left to the kernel\n    fix: steerctl undrain wg1"
    );
    let weightless: OnFacts = |f| {
        for tunnel in &mut f.steered.tunnels {
            tunnel.weight = 0;
        }
    };
    let told = warns("group_usable", AS_THEY_ARE, weightless);
    assert!(told.ends_with("fix: steerctl weights wg0=1"), "{told}");
}

#[test]
fn probe_targets() {
    let silent: OnFacts = |f| {
        f.steered.tunnels[0].health = Health::Unknown;
        f.steered.tunnels[0].told.reason = HealthReason::NoAnswerYet;
    };
    assert_eq!(
        warns("probe_target", AS_THEY_ARE, silent),
        "warn probe_target: wg0: its probe target 10.9.0.2 has never answered for 2h 1m: whether anything comes through is not known, and flows are placed on it all the same\n    fix: ping -I wg0 10.9.0.2; then name one that answers: probe.target in the file, or --probe-target wg0=ADDR"
    );
    let unasked = warns("probe_target", |d| d[2].addresses.clear(), AS_IS);
    let words = "is never asked: the tunnel has no address of that family to ask from";
    assert!(unasked.contains(words), "{unasked}");
    // The first answer may be under way.
    let lately = found("probe_target", AS_THEY_ARE, |f| {
        f.steered.tunnels[0].health = Health::Unknown;
        f.steered.tunnels[0].told.reason = HealthReason::NoAnswerYet;
        f.steered.tunnels[0].health_secs = Some(1);
    });
    assert_eq!(lately[0].level, Level::Ok);
    // Where none was named, WireGuard's signals may be all there is.
    let unnamed = found("probe_target", AS_THEY_ARE, |f| {
        f.steered.tunnels[0].health = Health::Unknown;
        f.steered.tunnels[0].told.reason = HealthReason::NoAnswerYet;
        f.probe_targets.clear();
    });
    assert_eq!(unnamed, []);
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
        f.now += Duration::from_secs(80);
    }));
    // A clock that was set back makes no old handshake.
    let earlier = found("handshakes", AS_THEY_ARE, |f| {
        f.now = Duration::from_secs(1);
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
        f.threaded[1].1 = false;
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
        f.underlay[0].route = KernelRoute::None;
    }));
    told.push(fails("ipv6", |d| d[2].mtu_bytes = 1_279, AS_IS));
    told.push(fails("ipv6", AS_THEY_ARE, |f| {
        f.sysctls.ipv6_off = vec!["wg1".into()];
    }));
    insta::assert_snapshot!(told.join("\n"));
}
