//! Which devices can be LAN devices, and when there must be one.

use steer_common::abi::HookKind;

use super::*;
use crate::net::{Master, MasterKind, Vlan};

#[test]
fn layer_3_devices_and_ports_on_the_lan_side() {
    let none = Existing::default();
    let mut devices = gateway();
    let tun = Device {
        layer3: true,
        kind: Some("tun".into()),
        ..lan(9, "tun0", &[])
    };
    devices.push(tun);
    let plan = planned(
        &request(&["tun0", "lan0"], &["wg0"], &["10.2.0.0/16"]),
        devices.clone(),
        &none,
    );
    let kinds: Vec<_> = plan
        .attachments()
        .iter()
        .map(|(attachment, _)| attachment)
        .filter(|attachment| attachment.kind == HookKind::Ingress)
        .map(|attachment| (attachment.name.to_owned(), attachment.layer3))
        .collect();
    assert_eq!(kinds, [("tun0".into(), true), ("lan0".into(), false)]);

    devices.push(lan(20, "br0", &[]));
    let port = |kind| Device {
        master: Some(Master { ifindex: 20, kind }),
        ..lan(21, "eth1", &[])
    };
    for (kind, message) in [
        (
            MasterKind::Bridge,
            "device eth1: is a port of bridge br0 | --iface br0",
        ),
        (
            MasterKind::Bond,
            "device eth1: is a port of bond br0 | --iface br0",
        ),
        (
            MasterKind::Team,
            "device eth1: is a port of team br0 | --iface br0",
        ),
        (
            MasterKind::Other("openvswitch".into()),
            "device eth1: is a port of openvswitch br0 | --iface br0",
        ),
        (
            MasterKind::Other(String::new()),
            "device eth1: is a port of br0 | --iface br0",
        ),
    ] {
        let mut devices = devices.clone();
        devices.push(port(kind));
        let request = request(&["eth1"], &["wg0"], &["10.2.0.0/16"]);
        assert_eq!(refused(&request, devices, &none), message);
    }
    // A member of a VRF keeps its packets.
    devices.push(port(MasterKind::Vrf));
    let request = request(&["eth1"], &["wg0"], &["10.2.0.0/16"]);
    assert_eq!(
        planned(&request, devices, &none).groups[0].hooks[0].name,
        "eth1"
    );
}

#[test]
fn vlans_on_the_lan_side() {
    let vlan = |ifindex, name: &str, parent| Device {
        vlan: Some(Vlan {
            parent,
            protocol: 0x8100,
            id: 10,
        }),
        ..lan(ifindex, name, &[])
    };
    let mut devices = gateway();
    devices.push(vlan(10, "office", 2));
    devices.push(vlan(11, "inner", 10));
    devices.push(wireguard(12, "wg5", "10.9.5.1/24", &[]));
    let none = Existing::default();
    let net = &["10.2.0.0/16"];
    let only_vlan = planned(&request(&["inner"], &["wg0"], net), devices.clone(), &none);
    assert_eq!(only_vlan.groups[0].hooks[0].ifindex, 11);
    for ifaces in [["lan0", "inner"], ["inner", "lan0"]] {
        assert_eq!(
            refused(&request(&ifaces, &["wg0"], net), devices.clone(), &none),
            "device inner: is a VLAN on lan0, a LAN device, so its packets would be seen twice | \
             leave out --iface inner"
        );
    }
    assert_eq!(
        refused(
            &request(&["office"], &["wg5"], &["10.3.0.0/16"]),
            devices,
            &existing("site")
        ),
        "device office: is a VLAN on lan0, a LAN device of group site, so its packets would be \
         seen twice | leave out --iface office"
    );
}

#[test]
fn no_lan_device_is_needed_on_the_tunnels() {
    let none = Existing::default();
    let mut egress = request(&[], &["wg0", "wg1"], &["10.2.0.0/16"]);
    egress.hook = Some(HookChoice::Mode(HookMode::Egress));
    let plan = planned(&egress, gateway(), &none);
    assert!(plan.groups[0].hooks.is_empty() && plan.marks.is_none());
    assert_eq!(plan.attachments().len(), 4);
    // One that is named must be one, all the same.
    egress.groups[0].ifaces = vec!["lan9".into()];
    assert!(refused(&egress, gateway(), &none).starts_with("device lan9: no such device"));
    let mut existing = existing("default");
    existing.hook = HookMode::Egress;
    existing.groups[0].ifaces.clear();
    let adopted = planned(&request(&[], &[], &[]), gateway(), &existing);
    assert_eq!(adopted.mode, HookMode::Egress);
    let mut back = request(&[], &[], &[]);
    back.hook = Some(HookChoice::Mode(HookMode::Ingress));
    assert!(refused(&back, gateway(), &existing).starts_with("no LAN device given"));
}
