//! The kernel's routing decision, with `ip route get` as the second opinion.

use steer_user::net::{KernelRoute, Netlink, PacketOrigin, RouteQuery};

use crate::{Netns, block_on, device};

/// A namespace with the devices `wg0` … `wg2`, which only have that name.
fn with_tunnels(test: &str) -> Option<Netns> {
    let netns = Netns::new(test)?;
    netns.ip("link set lo up");
    for number in 0..3 {
        netns.ip(&format!(
            "link add wg{number} type veth peer name far{number}"
        ));
        netns.ip(&format!("link set wg{number} up"));
        netns.ip(&format!("link set far{number} up"));
        netns.ip(&format!("addr add 10.9.{number}.1/24 dev wg{number}"));
        netns.ip(&format!(
            "addr add fd09:{number}::1/64 dev wg{number} nodad"
        ));
    }
    Some(netns)
}

fn own(destination: &str) -> RouteQuery {
    RouteQuery {
        destination: destination.parse().expect("address"),
        mark: 0,
        origin: PacketOrigin::Own,
    }
}

/// The names of the devices, or what the decision is instead.
async fn decide(netlink: &Netlink, query: &RouteQuery) -> Vec<String> {
    match netlink.route_devices(query).await.expect("a decision") {
        KernelRoute::Devices(devices) => {
            let all = netlink.devices().await.expect("devices");
            let name = |ifindex| all.by_index(ifindex).expect("a device").name.clone();
            devices.into_iter().map(name).collect()
        }
        KernelRoute::Local => vec!["local".into()],
        KernelRoute::None => vec!["none".into()],
    }
}

/// The same from `ip route get fibmatch`.
fn by_ip(netns: &Netns, arguments: &str) -> Vec<String> {
    let answer = netns.json(&format!("route get fibmatch {arguments}"));
    let Some(route) = answer.first() else {
        return vec!["none".into()];
    };
    if route["type"] == "2" || route["type"] == "local" {
        return vec!["local".into()];
    }
    let name = |value: &serde_json::Value| value["dev"].as_str().expect("a device").to_owned();
    match route["nexthops"].as_array() {
        Some(hops) => hops.iter().map(name).collect(),
        None => vec![name(route)],
    }
}

#[test]
fn own_packets() {
    let Some(netns) = with_tunnels("lookup") else {
        return;
    };
    netns.ip("route add 10.2.0.0/16 dev wg0");
    netns.ip("route add 10.2.1.0/24 nexthop dev wg2 nexthop via 10.9.1.2 dev wg1 weight 3");
    netns.ip("route add blackhole 10.2.2.0/24");
    netns.ip("route add unreachable 10.2.3.0/24");
    netns.ip("route add prohibit 10.2.4.0/24");
    netns.ip("route add local 10.2.5.0/24 dev lo");
    netns.ip("-6 route add fd02::/64 dev wg1");
    netns
        .ip("-6 route add fd02:1::/64 nexthop via fd09:0::2 dev wg0 nexthop via fd09:2::2 dev wg2");
    netns.ip("-6 route add unreachable fd02:3::/64");
    netns.ip("-6 route add blackhole fd02:2::/64");
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        for (destination, expected) in [
            ("10.2.9.1", &["wg0"][..]),
            ("10.2.1.1", &["wg1", "wg2"]),
            ("10.2.2.1", &["none"]),
            ("10.2.3.1", &["none"]),
            ("10.2.4.1", &["none"]),
            ("10.2.5.1", &["local"]),
            ("10.9.0.1", &["local"]),
            ("192.0.2.1", &["none"]),
            ("fd02::1", &["wg1"]),
            ("fd02:1::1", &["wg0", "wg2"]),
            ("fd02:2::1", &["none"]),
            ("fd02:3::1", &["none"]),
            ("fd09:1::1", &["local"]),
            ("2001:db8::1", &["none"]),
        ] {
            assert_eq!(
                decide(&netlink, &own(destination)).await,
                expected,
                "{destination}"
            );
            let mut second = by_ip(&netns, destination);
            second.sort();
            assert_eq!(second, expected, "ip route get {destination}");
        }
    });
}

#[test]
fn marked_and_forwarded_packets() {
    let Some(netns) = with_tunnels("lookup-marked") else {
        return;
    };
    netns.ip("route add 10.2.0.0/16 dev wg0");
    netns.ip("-6 route add fd02::/64 dev wg0");
    netns.ip("route add default dev wg1 table 572301");
    netns.ip("-6 route add default dev wg1 table 572301");
    netns.ip("route add default dev wg2 table 100");
    netns.ip("rule add pref 5210 fwmark 0x2000000/0xff000000 lookup 572301");
    netns.ip("-6 rule add pref 5210 fwmark 0x2000000/0xff000000 lookup 572301");
    netns.ip("rule add pref 6000 iif wg1 lookup 100");
    for setting in [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.wg1.rp_filter=0",
    ] {
        assert!(netns.exec("sysctl", &["-w", setting]), "{setting}");
    }
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        for destination in ["10.2.0.1", "fd02::1"] {
            let plain = own(destination);
            assert_eq!(decide(&netlink, &plain).await, ["wg0"]);
            let marked = RouteQuery {
                mark: 0x0200_0007,
                ..plain
            };
            assert_eq!(decide(&netlink, &marked).await, ["wg1"], "{destination}");
        }
        let forwarded = RouteQuery {
            origin: PacketOrigin::Forwarded {
                iif: device(&netlink, "wg1").await.ifindex,
                source: "10.9.1.2".parse().expect("address"),
            },
            ..own("10.2.0.1")
        };
        assert_eq!(decide(&netlink, &forwarded).await, ["wg2"]);
        assert_eq!(by_ip(&netns, "10.2.0.1 from 10.9.1.2 iif wg1"), ["wg2"]);
        let nowhere = RouteQuery {
            origin: PacketOrigin::Forwarded {
                iif: 9_999,
                source: "10.9.1.2".parse().expect("address"),
            },
            ..own("10.2.0.1")
        };
        let error = netlink
            .route_devices(&nowhere)
            .await
            .expect_err("no such device");
        assert_eq!(
            error.to_string(),
            "route to 10.2.0.1: No such device (os error 19)"
        );
    });
}

#[test]
fn next_hop_objects() {
    let Some(netns) = with_tunnels("nexthops") else {
        return;
    };
    for object in [
        "nexthop add id 1 dev wg0",
        "nexthop add id 2 via 10.9.2.2 dev wg2",
        "nexthop add id 10 group 2/1,5",
        "-6 nexthop add id 11 dev wg1",
        "-6 nexthop add id 12 dev wg2",
        "-6 nexthop add id 13 blackhole",
        "nexthop add id 20 group 12/11",
    ] {
        netns.ip(object);
    }
    netns.ip("route add 10.2.0.0/16 nhid 10");
    netns.ip("route add 10.3.0.0/16 nhid 1");
    netns.ip("-6 route add fd02::/64 nhid 20");
    netns.ip("-6 route add fd04::/64 nhid 13");
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        // The kernel spells a route by object out, or does not.
        for compat_mode in [1, 0] {
            let setting = format!("net.ipv4.nexthop_compat_mode={compat_mode}");
            assert!(netns.exec("sysctl", &["-w", &setting]), "{setting}");
            for (destination, expected) in [
                ("10.2.0.1", &["wg0", "wg2"][..]),
                ("10.3.0.1", &["wg0"]),
                ("fd02::1", &["wg1", "wg2"]),
                ("fd04::1", &["none"]),
            ] {
                let devices = decide(&netlink, &own(destination)).await;
                assert_eq!(devices, expected, "{destination} {setting}");
            }
        }
    });
}
