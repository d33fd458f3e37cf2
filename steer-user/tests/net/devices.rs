//! Devices, addresses, and what is on top of what.

use steer_user::net::{MasterKind, Netlink};

use crate::{Netns, block_on, device};

#[test]
fn devices_and_addresses() {
    let Some(netns) = Netns::new("devices") else {
        return;
    };
    netns.ip("link set lo up");
    netns.ip("link add lan0 type veth peer name far0");
    netns.ip("link set lan0 mtu 1400 up");
    netns.ip("addr add 10.1.0.1/24 dev lan0");
    netns.ip("addr add fd00:1::1/64 dev lan0 nodad");
    netns.ip("tuntap add dev tun0 mode tun");
    netns.ip("addr add 10.9.0.1 peer 10.9.0.2 dev tun0");
    netns.ip("tuntap add dev tap0 mode tap");
    netns.enter();
    let devices =
        block_on(async { Netlink::connect().expect("netlink").devices().await }).expect("devices");

    let lan = devices.by_name("lan0").expect("lan0");
    assert_eq!(
        (lan.mtu_bytes, lan.up, lan.layer3, lan.loopback),
        (1_400, true, false, false)
    );
    assert_eq!(lan.kind.as_deref(), Some("veth"));
    let addresses: Vec<String> = lan.addresses.iter().map(ToString::to_string).collect();
    assert!(addresses.contains(&"10.1.0.1/24".into()), "{addresses:?}");
    assert!(addresses.contains(&"fd00:1::1/64".into()), "{addresses:?}");
    assert_eq!(devices.by_index(lan.ifindex), Some(lan));

    let tun = devices.by_name("tun0").expect("tun0");
    assert_eq!(
        (tun.up, tun.layer3, tun.kind.as_deref()),
        (false, true, Some("tun"))
    );
    assert_eq!(
        tun.addresses[0].addr().to_string(),
        "10.9.0.1",
        "ours, not the peer's"
    );
    assert_eq!(tun.wireguard, None);
    assert!(!devices.by_name("tap0").expect("tap0").layer3);
    assert!(devices.by_name("lo").expect("lo").loopback);
    assert_eq!(devices.by_name("eth7"), None);
}

#[test]
fn masters_and_parents() {
    let Some(netns) = Netns::new("masters") else {
        return;
    };
    netns.ip("link add br0 type bridge");
    netns.ip("link add lan0 type veth peer name far0");
    netns.ip("link set lan0 master br0");
    netns.ip("link add mac0 link far0 type macvlan");
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let bridge = device(&netlink, "br0").await;
        assert_eq!(bridge.master, None);
        let master = device(&netlink, "lan0").await.master.expect("a master");
        assert_eq!(master.ifindex, bridge.ifindex);
        assert_eq!(master.kind, MasterKind::Bridge);
        let macvlan = device(&netlink, "mac0").await;
        assert_eq!(macvlan.kind.as_deref(), Some("macvlan"));
        assert_eq!((macvlan.master, macvlan.vlan), (None, None));

        netns.ip("link set lan0 nomaster");
        assert_eq!(device(&netlink, "lan0").await.master, None);
    });
}

#[test]
fn vlan_devices() {
    let Some(netns) = Netns::new("vlans") else {
        return;
    };
    netns.ip("link add lan0 type veth peer name far0");
    if !netns.try_ip("link add lan0.10 link lan0 type vlan id 10") {
        println!(
            "SKIP (optional) vlan_devices: this kernel has no VLAN devices (CONFIG_VLAN_8021Q)"
        );
        return;
    }
    netns.ip("link add outer link lan0 type vlan proto 802.1ad id 200");
    netns.ip("link add inner link outer type vlan id 30");
    netns.ip("link add other link far0 type vlan id 10");
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let devices = netlink.devices().await.expect("devices");
        let lan = devices.by_name("lan0").expect("lan0").ifindex;
        let outer = devices.by_name("outer").expect("outer").ifindex;
        let vlans: Vec<_> = devices
            .vlans_on(lan)
            .into_iter()
            .map(|device| {
                let vlan = device.vlan.expect("a VLAN");
                (device.name.as_str(), vlan.parent, vlan.protocol, vlan.id)
            })
            .collect();
        assert_eq!(
            vlans,
            [
                ("lan0.10", lan, 0x8100, 10),
                ("outer", lan, 0x88A8, 200),
                ("inner", outer, 0x8100, 30)
            ]
        );
    });
}
