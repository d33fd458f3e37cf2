//! Every refusal by its message, and what is planned when there is none.

use ipnet::IpNet;
use steer_common::abi::{Admin, Health, HookMode, HookOrder};

use super::*;
use crate::net::{Device, Devices, Netfilter, Peer, WireGuard};

mod lan_side;
mod marks;
mod several;

const MEMORY_BYTES: u64 = 4 << 30;

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts
        .iter()
        .map(|text| text.parse().expect("a network"))
        .collect()
}

fn lan(ifindex: u32, name: &str, addresses: &[&str]) -> Device {
    Device {
        ifindex,
        name: name.into(),
        mtu_bytes: 1_500,
        up: true,
        kind: Some("veth".into()),
        addresses: networks(addresses),
        ..Device::default()
    }
}

fn wireguard(ifindex: u32, name: &str, address: &str, allowed: &[&str]) -> Device {
    let peer = Peer {
        endpoint: format!("192.0.2.{ifindex}:51820").parse().ok(),
        allowed_ips: networks(allowed),
        ..Peer::default()
    };
    Device {
        mtu_bytes: 1_420,
        layer3: true,
        kind: Some("wireguard".into()),
        wireguard: Some(WireGuard {
            peers: vec![peer],
            ..WireGuard::default()
        }),
        ..lan(ifindex, name, &[address])
    }
}

fn gateway() -> Vec<Device> {
    let lo = Device {
        loopback: true,
        kind: None,
        ..lan(1, "lo", &["127.0.0.1/8", "::1/128"])
    };
    vec![
        lo,
        lan(2, "lan0", &["10.1.0.1/24", "fe80::1/64"]),
        wireguard(
            3,
            "wg0",
            "10.9.0.1/24",
            &["10.2.0.0/16", "fd00:2::/64", "10.9.0.0/24"],
        ),
        wireguard(
            4,
            "wg1",
            "10.9.1.1/24",
            &["10.0.0.0/8", "fd00:2::/64", "0.0.0.0/0"],
        ),
    ]
}

fn group(name: &str, ifaces: &[&str], tunnels: &[&str], prefixes: &[&str]) -> GroupRequest {
    let tunnel = |text: &&str| text.parse::<TunnelSpec>().expect("a tunnel").into();
    GroupRequest {
        name: name.into(),
        ifaces: ifaces.iter().map(ToString::to_string).collect(),
        tunnels: tunnels.iter().map(tunnel).collect(),
        prefixes: networks(prefixes),
        follows_routes: false,
    }
}

fn request(ifaces: &[&str], tunnels: &[&str], prefixes: &[&str]) -> Request {
    Request {
        groups: vec![group("default", ifaces, tunnels, prefixes)],
        ..Request::default()
    }
}

fn existing_tunnel(name: &str, id: u8, weight: u32) -> ExistingTunnel {
    ExistingTunnel {
        name: name.into(),
        id,
        weight,
        tier: 0,
        admin: Admin::Active,
        health: Health::Up,
        rp_filter_before: 0,
    }
}

fn existing(group: &str) -> Existing {
    Existing {
        seed: Some(7),
        max_flows: Some(70_000),
        hook: HookMode::Ingress,
        groups: vec![ExistingGroup {
            follows_routes: false,
            name: group.into(),
            id: 0,
            prefixes: networks(&["10.2.0.0/16"]),
            ifaces: vec!["lan0".into()],
            order: Some(HookOrder::Last),
            tunnels: vec![existing_tunnel("wg0", 4, 3), existing_tunnel("wg1", 1, 1)],
        }],
        ..Existing::default()
    }
}

/// A machine without a firewall.
fn machine(devices: &Devices) -> Machine<'_> {
    Machine {
        devices,
        netfilter: Ok(Netfilter::default()),
        strict: Vec::new(),
        rules: Vec::new(),
        memory_bytes: MEMORY_BYTES,
    }
}

fn planned(request: &Request, devices: Vec<Device>, existing: &Existing) -> Plan {
    let devices = Devices::new(devices);
    plan(request, &machine(&devices), existing).expect("a plan")
}

fn refused(request: &Request, devices: Vec<Device>, existing: &Existing) -> String {
    let devices = Devices::new(devices);
    words(&plan(request, &machine(&devices), existing).expect_err("a refusal"))
}

/// Message and hint.
fn words(error: &PlanError) -> String {
    match error.hint() {
        Some(hint) => format!("{error} | {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn everything_given() {
    let mut request = request(
        &["lan0"],
        &["wg1=3", "wg0"],
        &["fd00:2::/64", "10.2.0.0/16"],
    );
    request.seed = Some(5);
    let plan = planned(&request, gateway(), &Existing::default());
    assert_eq!(
        plan.groups[0].hooks,
        [PlannedHook {
            name: "lan0".into(),
            ifindex: 2,
            layer3: false,
        }]
    );
    let tunnels: Vec<_> = plan.groups[0]
        .tunnels
        .iter()
        .map(|t| {
            (
                t.name.as_str(),
                t.id,
                t.ifindex,
                t.weight,
                t.mtu_bytes,
                t.up,
            )
        })
        .collect();
    assert_eq!(
        tunnels,
        [("wg0", 0, 3, 1, 1_420, true), ("wg1", 1, 4, 3, 1_420, true)]
    );
    assert_eq!(
        plan.groups[0].prefixes,
        networks(&["10.2.0.0/16", "fd00:2::/64"])
    );
    assert_eq!(
        (plan.seed, plan.max_flows, plan.groups[0].id),
        (Some(5), 488_064, 0)
    );
    assert_eq!(plan.idle, Idle::default());
    assert_eq!(
        plan.notes,
        ["hook ingress: nothing on this gateway looks at forwarded packets"]
    );
}

#[test]
fn discovery() {
    let plan = planned(
        &request(&["lan0"], &[], &[]),
        gateway(),
        &Existing::default(),
    );
    assert_eq!(plan.groups[0].tunnels.len(), 2);
    assert_eq!(
        plan.groups[0].prefixes,
        networks(&["10.2.0.0/16", "fd00:2::/64"])
    );
    assert_eq!(
        plan.notes,
        [
            "found 2 WireGuard devices: wg0, wg1",
            "not steered: prefix 10.9.0.0/24: contains 10.9.0.1, this gateway's own address on wg0",
            "common AllowedIPs: 10.2.0.0/16, fd00:2::/64",
            "hook ingress: nothing on this gateway looks at forwarded packets",
        ]
    );
}

#[test]
fn discovery_of_nothing() {
    let none = Existing::default();
    let only_lan = request(&["lan0"], &[], &[]);
    assert_eq!(
        refused(&only_lan, gateway()[..2].to_vec(), &none),
        "no WireGuard device found | name the tunnels and what to steer: --tunnel wg0 --prefix 10.2.0.0/16"
    );
    let mut devices = gateway();
    devices[2].up = false;
    devices.truncate(3);
    assert_eq!(
        refused(&only_lan, devices, &none),
        "no WireGuard device found | down: wg0; or name the tunnels: --tunnel wg0"
    );
    let mut devices = gateway();
    devices.truncate(2);
    devices.push(wireguard(3, "wg0", "10.9.0.1/24", &["0.0.0.0/0"]));
    assert_eq!(
        refused(&only_lan, devices, &none),
        "the tunnels have no AllowedIPs in common that could be steered \
         (prefix 0.0.0.0/0: the default route cannot be steered) | name the remote networks: --prefix 10.2.0.0/16"
    );
    let mut devices = gateway();
    devices[2].wireguard = None;
    assert_eq!(
        refused(&only_lan, devices, &none),
        "tunnel wg0: its AllowedIPs are not known | name the remote networks: --prefix 10.2.0.0/16"
    );
}

#[test]
fn adoption_without_a_word() {
    let mut devices = gateway();
    devices[3].up = false;
    devices.remove(2);
    let plan = planned(&request(&[], &[], &[]), devices, &existing("default"));
    let tunnels: Vec<_> = plan.groups[0]
        .tunnels
        .iter()
        .map(|t| (t.name.as_str(), t.id, t.ifindex, t.weight, t.up))
        .collect();
    assert_eq!(tunnels, [("wg1", 1, 4, 1, false), ("wg0", 4, 0, 3, false)]);
    assert_eq!(plan.groups[0].prefixes, networks(&["10.2.0.0/16"]));
    assert_eq!((plan.seed, plan.max_flows), (Some(7), 70_000));
    assert_eq!(
        plan.notes,
        [
            "tunnel wg0: its device is gone",
            "tunnel wg1: its device is down"
        ]
    );
}

#[test]
fn a_restart_with_the_same_words_does_not_fail_for_a_tunnel_that_is_down() {
    let mut devices = gateway();
    devices[3].up = false;
    devices.remove(2);
    let words = request(&["lan0"], &["wg0", "wg1"], &["10.2.0.0/16"]);
    let plan = planned(&words, devices, &existing("default"));
    let tunnels: Vec<_> = plan.groups[0]
        .tunnels
        .iter()
        .map(|t| (t.name.as_str(), t.up))
        .collect();
    assert_eq!(tunnels, [("wg1", false), ("wg0", false)]);
}

#[test]
fn adoption_keeps_ids_and_weights() {
    let mut request = request(&["lan0"], &["wg0", "wg1=2"], &["10.2.0.0/16"]);
    request.idle = "udp=1m".parse().ok();
    request.seed = Some(8);
    let plan = planned(&request, gateway(), &existing("default"));
    let tunnels: Vec<_> = plan.groups[0]
        .tunnels
        .iter()
        .map(|t| (t.name.as_str(), t.id, t.weight))
        .collect();
    assert_eq!(tunnels, [("wg1", 1, 2), ("wg0", 4, 3)]);
    assert_eq!(plan.idle.udp.as_secs(), 60);
    assert_eq!(
        plan.notes,
        ["seed changes from 0x7 to 0x8: new flows are placed by it, live flows stay"]
    );
    let other = planned(
        &Request {
            groups: vec![group("b", &["lan0"], &["wg2"], &["10.3.0.0/16"])],
            ..Request::default()
        },
        {
            let mut devices = gateway();
            devices.push(wireguard(5, "wg2", "10.9.2.1/24", &[]));
            devices
        },
        &existing("default"),
    );
    assert_eq!((other.groups[0].id, other.groups[0].tunnels[0].id), (1, 2));
}

#[test]
fn refused_devices() {
    let none = Existing::default();
    let net = &["10.2.0.0/16"];
    for (ifaces, tunnels, message) in [
        (
            vec![],
            vec!["wg0"],
            "no LAN device given | name the devices that local packets come in on: --iface lan0; or --hook egress",
        ),
        (
            vec!["lan9"],
            vec!["wg0"],
            "device lan9: no such device | existing: lan0, wg0, wg1",
        ),
        (
            vec!["lan0"],
            vec!["wg9"],
            "tunnel wg9: no such device | existing: wg0, wg1",
        ),
        (
            vec!["lan0", "lan0"],
            vec!["wg0"],
            "device lan0: given twice",
        ),
        (vec!["lo"], vec!["wg0"], "device lo: is the loopback device"),
        (
            vec!["lan0"],
            vec!["wg0", "wg0=2"],
            "tunnel wg0: given twice",
        ),
        (
            vec!["lan0", "wg0"],
            vec!["wg0"],
            "device wg0: is a tunnel, so it cannot be a LAN device",
        ),
        (
            vec!["wg1"],
            vec!["lan0"],
            "tunnel lan0: not a layer-3 device but veth: its packets have MAC headers | \
             a tunnel is a WireGuard or TUN device, or another one without MAC headers",
        ),
        (
            vec!["lan0"],
            vec!["wg0=0", "wg1=0"],
            "group default: all weights are 0, so no tunnel could get new flows | \
             give one tunnel a weight above 0; to stop steering, use steerctl detach",
        ),
    ] {
        assert_eq!(
            refused(&request(&ifaces, &tunnels, net), gateway(), &none),
            message
        );
    }
    for (index, message) in [
        (1, "device lan0: the device is down | ip link set lan0 up"),
        (2, "tunnel wg0: the device is down | ip link set wg0 up"),
    ] {
        let mut devices = gateway();
        devices[index].up = false;
        assert_eq!(
            refused(&request(&["lan0"], &["wg0"], net), devices, &none),
            message
        );
    }
}

#[test]
fn refused_because_of_other_groups() {
    let before = existing("site");
    let mut devices = gateway();
    devices.push(wireguard(5, "wg5", "10.9.5.1/24", &[]));
    for (ifaces, tunnels, prefixes, message) in [
        (
            ["lan0"],
            ["wg0"],
            ["10.3.0.0/16"],
            "tunnel wg0: belongs to group site",
        ),
        (
            ["wg0"],
            ["wg5"],
            ["10.3.0.0/16"],
            "device wg0: is a tunnel of group site, so it cannot be a LAN device",
        ),
        (
            ["lan0"],
            ["wg5@4"],
            ["10.3.0.0/16"],
            "tunnel wg5: id 4 is taken by tunnel wg0 | give another id, or none",
        ),
        (
            ["lan0"],
            ["wg5"],
            ["10.2.7.0/24"],
            "prefix 10.2.7.0/24: overlaps prefix 10.2.0.0/16 of group site",
        ),
    ] {
        assert_eq!(
            refused(
                &request(&ifaces, &tunnels, &prefixes),
                devices.clone(),
                &before
            ),
            message
        );
    }
    let mut before = before;
    before.groups[0].ifaces = vec!["wg5".into()];
    assert_eq!(
        refused(
            &request(&["lan0"], &["wg5"], &["10.3.0.0/16"]),
            devices,
            &before
        ),
        "tunnel wg5: is a LAN device of group site"
    );
}

#[test]
fn refused_prefixes() {
    for (prefixes, message) in [
        (
            vec!["0.0.0.0/0"],
            "prefix 0.0.0.0/0: the default route cannot be steered | name the remote networks: --prefix 10.2.0.0/16",
        ),
        (
            vec!["::/0"],
            "prefix ::/0: the default route cannot be steered | name the remote networks: --prefix 10.2.0.0/16",
        ),
        (
            vec!["239.1.0.0/16"],
            "prefix 239.1.0.0/16: multicast addresses are never steered",
        ),
        (
            vec!["ff02::/16"],
            "prefix ff02::/16: multicast addresses are never steered",
        ),
        (
            vec!["127.0.0.0/8"],
            "prefix 127.0.0.0/8: loopback addresses are never steered",
        ),
        (
            vec!["169.254.1.0/24"],
            "prefix 169.254.1.0/24: link-local addresses are never steered",
        ),
        (
            vec!["fe80::/64"],
            "prefix fe80::/64: link-local addresses are never steered",
        ),
        (
            vec!["::ffff:10.2.0.0/112"],
            "prefix ::ffff:10.2.0.0/112: IPv4-mapped addresses are never steered",
        ),
        (
            vec!["::/32"],
            "prefix ::/32: holds the IPv4-mapped addresses ::ffff:0:0/96 | write IPv4 prefixes as IPv4",
        ),
        (
            vec!["10.2.0.0/16", "10.2.0.0/16"],
            "prefix 10.2.0.0/16: given twice",
        ),
        (
            vec!["10.2.0.0/16", "10.2.3.0/24"],
            "prefix 10.2.3.0/24: overlaps prefix 10.2.0.0/16 | the larger one is enough",
        ),
        (
            vec!["10.0.0.0/8"],
            "prefix 10.0.0.0/8: contains 10.1.0.1, this gateway's own address on lan0 | \
             steer only what is behind the tunnels; split the prefix around the address",
        ),
        (
            vec!["10.9.1.0/24"],
            "prefix 10.9.1.0/24: contains 10.9.1.1, this gateway's own address on wg1 | \
             steer only what is behind the tunnels; split the prefix around the address",
        ),
        (
            vec!["192.0.2.0/24"],
            "prefix 192.0.2.0/24: contains 192.0.2.3, the endpoint of tunnel wg0 | \
             the tunnel's own packets would enter the tunnel; split the prefix around it",
        ),
    ] {
        assert_eq!(
            refused(
                &request(&["lan0"], &["wg0", "wg1"], &prefixes),
                gateway(),
                &Existing::default()
            ),
            message
        );
    }
}

#[test]
fn refused_sizes() {
    let mut devices = gateway();
    let mut names = Vec::new();
    for index in 0..65 {
        let name = format!("t{index}");
        devices.push(wireguard(
            100 + index,
            &name,
            &format!("10.8.{index}.1/24"),
            &[],
        ));
        names.push(name);
    }
    let mut tunnels: Vec<&str> = names.iter().map(String::as_str).collect();
    let none = Existing::default();
    assert_eq!(
        refused(
            &request(&["lan0"], &tunnels, &["10.2.0.0/16"]),
            devices.clone(),
            &none
        ),
        "65 tunnels: a group has at most 64"
    );
    tunnels.pop();
    assert_eq!(
        planned(
            &request(&["lan0"], &tunnels, &["10.2.0.0/16"]),
            devices,
            &none
        )
        .groups[0]
            .tunnels
            .len(),
        64
    );

    let mut request = request(&["lan0"], &["wg0"], &["10.2.0.0/16"]);
    request.max_flows = Some(1_000);
    assert_eq!(planned(&request, gateway(), &none).max_flows, 1_000);
    assert_eq!(
        refused(&request, gateway(), &existing("default")),
        "--max-flows 1000: the flow table is there already, with 70000 entries | \
         leave out --max-flows, or steerctl detach first (flows are then placed anew)"
    );

    let mut full = existing("default");
    full.groups[0].prefixes = (0..=u16::MAX / 4)
        .map(|n| {
            IpNet::new_assert(
                std::net::Ipv4Addr::from(0x2000_0000 + u32::from(n)).into(),
                32,
            )
        })
        .collect();
    full.groups[0].name = "site".into();
    full.groups[0].tunnels.clear();
    assert_eq!(
        refused(&request, gateway(), &full),
        "16385 prefixes: all groups together have at most 16384"
    );
    let mut full = existing("default");
    full.groups = (0..64)
        .map(|id| ExistingGroup {
            name: format!("g{id}"),
            id,
            ..ExistingGroup::default()
        })
        .collect();
    assert_eq!(
        refused(&request, gateway(), &full),
        "there are 64 groups, and no more are possible"
    );
}

#[test]
fn an_address_that_came_later() {
    let mut devices = gateway();
    devices[1].addresses.extend(networks(&["10.2.0.9/32"]));
    let words = request(&["lan0"], &["wg0", "wg1"], &["10.2.0.0/16"]);
    let plan = planned(&words, devices.clone(), &existing("default"));
    assert_eq!(
        plan.notes,
        [
            "prefix 10.2.0.0/16: contains 10.2.0.9, this gateway's own address on lan0; \
             packets to it are left to the kernel"
        ]
    );
    assert!(
        refused(&words, devices, &Existing::default())
            .starts_with("prefix 10.2.0.0/16: contains 10.2.0.9")
    );
}
