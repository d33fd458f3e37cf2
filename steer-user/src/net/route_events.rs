//! Reading the kernel's routes, and hearing of their changes.

use std::net::IpAddr;

use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NLM_F_APPEND, NLM_F_EXCL, NLM_F_REPLACE, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, Parseable as _,
};
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
        RouteType, RouteVia,
    },
};
use netlink_proto::sys::{AsyncSocket as _, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use rtnetlink::MulticastGroup;

use super::{
    Family, NetError, Netlink, ROUTE_PROTOCOL,
    nexthop::{self, NextHop, RTM_DELNEXTHOP, RTM_NEWNEXTHOP},
    route_table::{Hop, Leads, Place, Route, RouteNotice, RouteTable},
    routes::{priority, table_of},
};

/// Room for the notices of some ten thousand routes that come at once. With too little the table is
/// taken anew, which is right, too.
const BUFFER_BYTES: usize = 16 << 20;
const GROUPS: [MulticastGroup; 3] = [
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Nexthop,
];

impl Netlink {
    /// All routes of these tables that a packet may follow whatever its source and type of service,
    /// but steer's own.
    ///
    /// IPv6 routes may be missing if others went meanwhile: see [`RouteTable::renew_in_part`].
    pub async fn route_table(&self, tables: &[u32]) -> Result<RouteTable, NetError> {
        let mut found = RouteTable::new(tables);
        let objects = nexthop::all().await.map_err(|cause| NetError::Request {
            what: "list of next-hop objects".into(),
            cause,
        })?;
        for object in objects {
            found.note(RouteNotice::ObjectCame(object));
        }
        for family in Family::ALL {
            for table in tables {
                let listed = self.listed_routes(family, Some(*table)).await?;
                for (prefix, route) in listed.iter().filter_map(route) {
                    found.add_listed(prefix, route);
                }
            }
        }
        Ok(found)
    }
}

/// A stream of [`RouteNotice`]s.
///
/// Subscribe first and take the table then, so that nothing falls between. What both tell is noted
/// twice, which in the end changes nothing, or is not certain.
pub struct RouteEvents {
    notices: BoxStream<'static, RouteNotice>,
}

impl RouteEvents {
    /// Subscribes to the routes of the current network namespace.
    pub fn subscribe() -> Result<Self, NetError> {
        let (mut connection, _, messages) =
            netlink_proto::new_connection::<Message>(NETLINK_ROUTE).map_err(NetError::Socket)?;
        let socket = connection.socket_mut().socket_mut();
        // Needs CAP_NET_ADMIN in the first namespace; without it there is the usual room.
        let _ = setsockopt(&socket, RcvBufForce, &BUFFER_BYTES);
        socket
            .bind(&SocketAddr::new(0, 0))
            .map_err(NetError::Socket)?;
        for group in GROUPS {
            match socket.add_membership(group as u32) {
                // Kernels before 5.3 have no next-hop objects.
                Err(error) if group != MulticastGroup::Nexthop => {
                    return Err(NetError::Socket(error));
                }
                _ => {}
            }
        }
        tokio::spawn(connection);
        Ok(Self {
            notices: messages
                .filter_map(|(message, _)| std::future::ready(notice(message)))
                .boxed(),
        })
    }

    /// The next notice; `None` when the socket failed for good.
    ///
    /// Cancel safe: a dropped call loses no notice.
    pub async fn next(&mut self) -> Option<RouteNotice> {
        self.notices.next().await
    }

    /// The next notice, if it is there already.
    pub fn next_at_once(&mut self) -> Option<RouteNotice> {
        self.notices.next().now_or_never().flatten()
    }
}

/// What the kernel sends to the subscribers of [`GROUPS`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    RouteCame(RouteMessage),
    RouteWent(RouteMessage),
    ObjectCame(NextHop),
    ObjectWent(NextHop),
}

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            RTM_NEWROUTE => RouteMessage::parse(payload).map(Self::RouteCame),
            RTM_DELROUTE => RouteMessage::parse(payload).map(Self::RouteWent),
            RTM_NEWNEXTHOP => NextHop::parse(payload).map(Self::ObjectCame),
            RTM_DELNEXTHOP => NextHop::parse(payload).map(Self::ObjectWent),
            other => Err(format!("message type {other}").into()),
        }
    }
}

/// A connection can send, too; on this one nothing is ever sent.
impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        0
    }

    fn buffer_len(&self) -> usize {
        0
    }

    fn serialize(&self, _buffer: &mut [u8]) {}
}

fn notice(message: NetlinkMessage<Message>) -> Option<RouteNotice> {
    let place = match message.header.flags {
        flags if flags & NLM_F_EXCL != 0 => Place::Alone,
        flags if flags & NLM_F_REPLACE != 0 => Place::Replaced,
        flags if flags & NLM_F_APPEND != 0 => Place::Last,
        _ => Place::First,
    };
    let message = match message.payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Overrun(_) => return Some(RouteNotice::Lost),
        _ => return None,
    };
    Some(match message {
        Message::RouteCame(message) => {
            let (prefix, route) = route(&message)?;
            RouteNotice::Came {
                prefix,
                route,
                place,
            }
        }
        Message::RouteWent(message) => {
            let (prefix, route) = route(&message)?;
            RouteNotice::Went { prefix, route }
        }
        Message::ObjectCame(object) => RouteNotice::ObjectCame(object),
        Message::ObjectWent(object) => RouteNotice::ObjectWent(object.id),
    })
}

/// What a message says of a route; `None` for one that is steer's own, is for some sources or types of
/// service only, or is a remembered lookup.
fn route(message: &RouteMessage) -> Option<(IpNet, Route)> {
    let header = &message.header;
    let is_special = header.source_prefix_length != 0
        || header.tos != 0
        || header.flags.contains(RouteFlags::Cloned)
        || u8::from(header.protocol) == ROUTE_PROTOCOL;
    if is_special {
        return None;
    }
    let destination = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some((*address).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some((*address).into()),
            _ => None,
        });
    let any = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let prefix = IpNet::new(destination.unwrap_or(any), header.destination_prefix_length).ok()?;
    let route = Route {
        table: table_of(message),
        metric: priority(message),
        protocol: header.protocol.into(),
        leads: if header.kind == RouteType::Unicast {
            leads(message)
        } else {
            Leads::Elsewhere
        },
    };
    Some((prefix, route))
}

fn leads(message: &RouteMessage) -> Leads {
    let is_dead = message.header.flags.contains(RouteFlags::Dead);
    let mut hops = Vec::new();
    let mut object = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => hops.push(Hop {
                ifindex: *ifindex,
                weight: 1,
                via: gateway(&message.attributes),
                is_dead,
            }),
            RouteAttribute::MultiPath(next_hops) => {
                if next_hops
                    .iter()
                    .any(|next_hop| is_wrapped(&next_hop.attributes))
                {
                    return Leads::Elsewhere;
                }
                hops.extend(next_hops.iter().map(hop));
            }
            RouteAttribute::NhId(id) => object = Some(*id),
            _ => {}
        }
    }
    // With `net.ipv4.nexthop_compat_mode` the kernel tells both; the object may change without the route.
    if let Some(id) = object {
        return Leads::Object(id);
    }
    if hops.is_empty() || is_wrapped(&message.attributes) {
        return Leads::Elsewhere;
    }
    hops.sort_unstable();
    Leads::Hops(hops)
}

fn hop(next_hop: &RouteNextHop) -> Hop {
    Hop {
        ifindex: next_hop.interface_index,
        weight: u32::from(next_hop.hops) + 1,
        via: gateway(&next_hop.attributes),
        is_dead: next_hop.flags.contains(RouteNextHopFlags::Dead),
    }
}

/// The address that a next hop leads by.
fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address))
        | RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(address))
        | RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

/// Whether packets get another header on the way: MPLS, segment routing, ….
fn is_wrapped(attributes: &[RouteAttribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_)
        )
    })
}
