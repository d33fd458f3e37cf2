//! Devices and addresses from route netlink.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoPortKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_proto::sys::protocols::NETLINK_ROUTE;

use super::exchange::exchange;
use super::{Device, Master, MasterKind, NetError, Vlan, has_no_mac_header};

/// All devices with their addresses, without what WireGuard tells.
pub(super) async fn all() -> Result<Vec<Device>, NetError> {
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let links = list("list of devices", links).await?;
    let mut devices: Vec<Device> = links
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => device(message),
            _ => None,
        })
        .collect();
    let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for message in list("list of addresses", addresses).await? {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            continue;
        };
        let Some(device) = devices
            .iter_mut()
            .find(|device| device.ifindex == message.header.index)
        else {
            continue;
        };
        let (own, peer) = ends(&message.attributes);
        let network = own.and_then(|own| IpNet::new(own, message.header.prefix_len).ok());
        device.addresses.extend(network);
        device.peer_addresses.extend(peer);
    }
    Ok(devices)
}

/// A whole listing: who is missing in it is gone.
async fn list(
    what: &str,
    question: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, NetError> {
    let answer = exchange(NETLINK_ROUTE, question.into(), NLM_F_DUMP).await;
    answer.map_err(|cause| NetError::Request {
        what: what.into(),
        cause,
    })
}

/// The own address of an address message and, if it is a point-to-point one, the far end's.
fn ends(attributes: &[AddressAttribute]) -> (Option<IpAddr>, Option<IpAddr>) {
    let (mut local, mut address) = (None, None);
    for attribute in attributes {
        match attribute {
            AddressAttribute::Local(ours) => local = Some(*ours),
            AddressAttribute::Address(ours_or_theirs) => address = Some(*ours_or_theirs),
            _ => {}
        }
    }
    // IPv6 has IFA_LOCAL only where there is a far end; IPv4 has both, alike where there is none.
    match local {
        Some(ours) => (local, address.filter(|theirs| *theirs != ours)),
        None => (address, None),
    }
}

/// The device of a link message; `None` for one without a name.
pub(super) fn device(message: &LinkMessage) -> Option<Device> {
    let mut device = Device {
        ifindex: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        layer3: has_no_mac_header(message.header.link_layer_type.into()),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..Device::default()
    };
    let (mut link, mut link_is_elsewhere) = (None, false);
    let mut master = None;
    let mut infos: &[LinkInfo] = &[];
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => device.mtu_bytes = *mtu,
            LinkAttribute::Link(ifindex) => link = Some(*ifindex),
            LinkAttribute::LinkNetNsId(_) => link_is_elsewhere = true,
            LinkAttribute::Controller(ifindex) => master = Some(*ifindex),
            LinkAttribute::LinkInfo(these) => infos = these,
            _ => {}
        }
    }
    device.kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    });
    device.master = master.map(|ifindex| Master {
        ifindex,
        kind: master_kind(infos),
    });
    // The number of a parent in another namespace may be that of any device here.
    let parent = link.filter(|_| !link_is_elsewhere);
    device.vlan = parent.and_then(|parent| vlan(parent, infos));
    (!device.name.is_empty()).then_some(device)
}

fn master_kind(infos: &[LinkInfo]) -> MasterKind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::PortKind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoPortKind::Bridge) => MasterKind::Bridge,
        Some(InfoPortKind::Bond) => MasterKind::Bond,
        Some(InfoPortKind::Team) => MasterKind::Team,
        Some(InfoPortKind::Vrf) => MasterKind::Vrf,
        other => MasterKind::Other(other.map(ToString::to_string).unwrap_or_default()),
    }
}

/// What `IFLA_INFO_DATA` says about a VLAN device; `None` for any other device.
fn vlan(parent: u32, infos: &[LinkInfo]) -> Option<Vlan> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let (mut id, mut protocol) = (None, None);
    for attribute in data {
        match attribute {
            InfoVlan::Id(value) => id = Some(*value),
            InfoVlan::Protocol(value) => protocol = Some(u16::from(*value)),
            _ => {}
        }
    }
    Some(Vlan {
        parent,
        protocol: protocol?,
        id: id?,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Parseable;

    use super::super::attribute;
    use super::*;

    /// The device of a message with this number, the name `x`, and these attributes.
    fn parse(ifindex: u32, attributes: &[Vec<u8>]) -> Device {
        const ARPHRD_ETHER: u16 = 1;
        let mut bytes = vec![0, 0];
        bytes.extend(ARPHRD_ETHER.to_ne_bytes());
        bytes.extend(ifindex.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(attribute(3, b"x\0"));
        bytes.extend(attributes.concat());
        let message = LinkMessage::parse(&bytes[..]).expect("a link message");
        device(&message).expect("a device")
    }

    fn link(ifindex: u32) -> Vec<u8> {
        attribute(5, &ifindex.to_ne_bytes())
    }

    fn vlan_info(id: u16, protocol: u16) -> Vec<u8> {
        let data = [
            attribute(1, &id.to_ne_bytes()),
            // IFLA_VLAN_FLAGS: flags and their mask.
            attribute(2, &[1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]),
            attribute(5, &protocol.to_be_bytes()),
        ];
        let info = [attribute(1, b"vlan\0"), attribute(2, &data.concat())];
        attribute(18, &info.concat())
    }

    #[test]
    fn vlan_devices() {
        let device = parse(7, &[link(3), vlan_info(10, 0x8100)]);
        assert_eq!(device.kind.as_deref(), Some("vlan"));
        let expected = Vlan {
            parent: 3,
            protocol: 0x8100,
            id: 10,
        };
        assert_eq!(device.vlan, Some(expected));

        // The order of the attributes is the kernel's affair.
        let service = parse(8, &[vlan_info(4_094, 0x88A8), link(7)]);
        let expected = Vlan {
            parent: 7,
            protocol: 0x88A8,
            id: 4_094,
        };
        assert_eq!(service.vlan, Some(expected));
    }

    #[test]
    fn point_to_point_addresses() {
        let [ours, theirs] = ["10.9.0.1", "10.9.0.2"].map(|text| text.parse().expect("address"));
        let (local, address) = (AddressAttribute::Local, AddressAttribute::Address);
        assert_eq!(
            ends(&[address(theirs), local(ours)]),
            (Some(ours), Some(theirs))
        );
        assert_eq!(ends(&[address(ours), local(ours)]), (Some(ours), None));
        assert_eq!(ends(&[address(ours)]), (Some(ours), None));
    }

    #[test]
    fn parents_elsewhere_are_none() {
        let elsewhere = attribute(37, &0_i32.to_ne_bytes());
        let device = parse(7, &[link(3), elsewhere, vlan_info(10, 0x8100)]);
        assert_eq!(device.kind.as_deref(), Some("vlan"));
        assert_eq!(device.vlan, None);

        let veth = attribute(18, &attribute(1, b"veth\0"));
        assert_eq!(parse(7, &[link(3), veth]).vlan, None, "a veth's far end");
    }

    #[test]
    fn masters() {
        let master = |kind: &[u8]| {
            let info = attribute(18, &attribute(4, kind));
            parse(7, &[attribute(10, &9_u32.to_ne_bytes()), info]).master
        };
        for (kind, expected) in [
            (&b"bridge\0"[..], MasterKind::Bridge),
            (b"bond\0", MasterKind::Bond),
            (b"team\0", MasterKind::Team),
            (b"vrf\0", MasterKind::Vrf),
            (b"openvswitch\0", MasterKind::Other("openvswitch".into())),
        ] {
            let expected = Master {
                ifindex: 9,
                kind: expected,
            };
            assert_eq!(master(kind), Some(expected));
        }
        let without_kind = parse(7, &[attribute(10, &9_u32.to_ne_bytes())]);
        let expected = Master {
            ifindex: 9,
            kind: MasterKind::Other(String::new()),
        };
        assert_eq!(without_kind.master, Some(expected));
        assert_eq!(parse(7, &[]).master, None);
    }
}
