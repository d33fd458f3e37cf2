//! Devices and addresses from route netlink.

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::{Device, NetError, Netlink, has_no_mac_header};

impl Netlink {
    /// All devices with their addresses, without what WireGuard tells.
    pub(super) async fn links(&self) -> Result<Vec<Device>, NetError> {
        let mut devices: Vec<Device> = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links
            .try_next()
            .await
            .map_err(|error| NetError::request("list of devices", error))?
        {
            devices.extend(device(&message));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses
            .try_next()
            .await
            .map_err(|error| NetError::request("list of addresses", error))?
        {
            let Some(device) = devices
                .iter_mut()
                .find(|device| device.ifindex == message.header.index)
            else {
                continue;
            };
            // On a point-to-point device IFA_ADDRESS is the far end and IFA_LOCAL ours.
            let local = message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) => Some(*address),
                    _ => None,
                });
            let address = local.or_else(|| {
                message
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        AddressAttribute::Address(address) => Some(*address),
                        _ => None,
                    })
            });
            let network =
                address.and_then(|address| IpNet::new(address, message.header.prefix_len).ok());
            device.addresses.extend(network);
        }
        Ok(devices)
    }
}

/// The device of a link message; `None` for one without a name.
pub(super) fn device(message: &LinkMessage) -> Option<Device> {
    let mut device = Device {
        ifindex: message.header.index,
        name: String::new(),
        mtu_bytes: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        layer3: has_no_mac_header(message.header.link_layer_type.into()),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        kind: None,
        addresses: Vec::new(),
        wireguard: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => device.mtu_bytes = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (!device.name.is_empty()).then_some(device)
}
