//! Which devices the kernel's routing would use for a packet.

use std::net::IpAddr;

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteType};

use super::{Family, NetError, Netlink, nexthop};

/// A packet for which the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// Where it goes.
    pub destination: IpAddr,
    /// Its mark; 0 is none.
    pub mark: u32,
    /// Where it comes from.
    pub origin: PacketOrigin,
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketOrigin {
    /// This gateway; and what the reverse path filter looks up for a source address.
    Own,
    /// Somebody behind a device: the packet is forwarded. That takes forwarding
    /// switched on, and a source that the reverse path filter lets in.
    Forwarded {
        /// Number of the device.
        iif: u32,
        /// Its source address.
        source: IpAddr,
    },
}

/// The kernel's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelRoute {
    /// Out by one of these devices: more than one for a multipath route. In the
    /// order of their numbers.
    Devices(Vec<u32>),
    /// To this gateway itself.
    Local,
    /// Nowhere: there is no route, or one that drops or refuses.
    None,
}

impl Netlink {
    /// The kernel's routing decision, with all next hops that it chooses from.
    ///
    /// It is about one address: longer prefixes within a prefix may go elsewhere.
    pub async fn route_devices(&self, query: &RouteQuery) -> Result<KernelRoute, NetError> {
        let what = || format!("route to {}", query.destination);
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(question(query)));
        // Acknowledged, so that an answer that cannot be read does not leave us waiting.
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|error| NetError::request(what(), error))?;
        let mut answer = None;
        while let Some(message) = answers.next().await {
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                    answer = Some(route);
                }
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    let error = NetError::request(what(), rtnetlink::Error::NetlinkError(error));
                    return if is_refusal(&error) {
                        Ok(KernelRoute::None)
                    } else {
                        Err(error)
                    };
                }
                _ => {}
            }
        }
        let failed = |cause| NetError::Request {
            what: what(),
            cause,
        };
        let route = answer.ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
        match route.header.kind {
            RouteType::Local | RouteType::Anycast => return Ok(KernelRoute::Local),
            RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => {
                return Ok(KernelRoute::None);
            }
            _ => {}
        }
        let mut devices = match next_hops(&route) {
            NextHops::Devices(devices) => devices,
            NextHops::Object(id) => nexthop::devices_of(id).await.map_err(failed)?,
        };
        devices.sort_unstable();
        devices.dedup();
        if devices.is_empty() {
            return Ok(KernelRoute::None);
        }
        Ok(KernelRoute::Devices(devices))
    }
}

/// Asks for the route as it is in the table (`RTM_F_FIB_MATCH`). The usual answer is
/// the one next hop that the kernel's hash picks for this packet.
fn question(query: &RouteQuery) -> RouteMessage {
    let family = Family::from(query.destination);
    let whole = match family {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family.number();
    message.header.flags = RouteFlags::FibMatch;
    message.header.destination_prefix_length = whole;
    message
        .attributes
        .push(RouteAttribute::Destination(query.destination.into()));
    if query.mark != 0 {
        message.attributes.push(RouteAttribute::Mark(query.mark));
    }
    if let PacketOrigin::Forwarded { iif, source } = query.origin {
        message.header.source_prefix_length = whole;
        message.attributes.push(RouteAttribute::Iif(iif));
        message
            .attributes
            .push(RouteAttribute::Source(source.into()));
    }
    message
}

/// Whether the kernel answers so for a packet that it would drop.
fn is_refusal(error: &NetError) -> bool {
    matches!(
        error.errno(),
        // No route; `unreachable`; `prohibit`; `blackhole`.
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}

enum NextHops {
    Devices(Vec<u32>),
    /// With `net.ipv4.nexthop_compat_mode` 0 the kernel names only the object.
    Object(u32),
}

fn next_hops(route: &RouteMessage) -> NextHops {
    let mut devices = Vec::new();
    let mut object = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => devices.push(*ifindex),
            RouteAttribute::MultiPath(hops) => {
                devices.extend(hops.iter().map(|hop| hop.interface_index));
            }
            RouteAttribute::NhId(id) => object = Some(*id),
            _ => {}
        }
    }
    match object {
        Some(id) if devices.is_empty() => NextHops::Object(id),
        _ => NextHops::Devices(devices),
    }
}
