//! The routes of steer's tables: everything to the device of one tunnel.

use std::fmt;
use std::ops::RangeInclusive;

use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::{Device, Family, NetError, Netlink, ROUTE_PROTOCOL, sysctl};

/// What became of a tunnel's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOutcome {
    /// It was missing, or led elsewhere.
    Set,
    /// It was there.
    Unchanged,
    /// It cannot be there now.
    Skipped(NoRoute),
}

/// Why there can be no route to a device now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// The kernel has no IPv6, or the device's MTU is below 1280.
    NoIpv6,
    /// `disable_ipv6` is set.
    Ipv6Disabled,
    /// The device is down.
    DeviceDown,
    /// The device is gone.
    DeviceGone,
}

/// Fits after the name of the device.
impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoIpv6 => "has no IPv6",
            Self::Ipv6Disabled => "has IPv6 switched off (disable_ipv6)",
            Self::DeviceDown => "is down",
            Self::DeviceGone => "is gone",
        })
    }
}

/// A route of steer as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelRoute {
    /// Its family.
    pub family: Family,
    /// Its table.
    pub table: u32,
    /// Number of the device that it leads to; `None` when there is not one such device.
    pub ifindex: Option<u32>,
}

impl Netlink {
    /// Makes everything that looks up `table` go to `device`, and leaves no other
    /// route of steer there, not even when the device can have none.
    ///
    /// Routes of others stay. A default route of theirs that is in the way is an error.
    pub async fn ensure_tunnel_route(
        &self,
        family: Family,
        table: u32,
        device: &Device,
    ) -> Result<RouteOutcome, NetError> {
        let wanted = wanted(family, table, device.ifindex);
        let listed = self.listed_routes(family, Some(table)).await?;
        let (ours, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_ours);
        if others.iter().any(|route| replaces(&wanted, route)) {
            return Err(NetError::ForeignRoute { family, table });
        }
        let (same, mut stale): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|route| is_same(&wanted, route));
        let mut outcome = RouteOutcome::Unchanged;
        if same.is_empty() {
            let mut request = self.handle.route().add(wanted.clone());
            let replaced = stale.iter().position(|route| replaces(&wanted, route));
            if replaced.is_some() {
                request = request.replace();
            }
            let what = || format!("{family} table {table}: default route to {}", device.name);
            let set = request.execute().await;
            match set.map_err(|error| NetError::request(what(), error)) {
                Ok(()) => {
                    outcome = RouteOutcome::Set;
                    replaced.map(|index| stale.remove(index));
                }
                Err(error) => {
                    let reason = no_route(family, &device.name, &error).ok_or(error)?;
                    outcome = RouteOutcome::Skipped(reason);
                }
            }
        }
        self.delete_routes(family, stale).await?;
        Ok(outcome)
    }

    /// Steer's routes in these tables.
    pub async fn tunnel_routes(
        &self,
        tables: &RangeInclusive<u32>,
    ) -> Result<Vec<TunnelRoute>, NetError> {
        let mut routes = Vec::new();
        for family in Family::ALL {
            let ours = self.our_routes(family, tables).await?;
            routes.extend(ours.iter().map(|message| tunnel_route(family, message)));
        }
        Ok(routes)
    }

    /// Removes steer's routes in these tables; tells which.
    pub async fn remove_tunnel_routes(
        &self,
        tables: &RangeInclusive<u32>,
    ) -> Result<Vec<TunnelRoute>, NetError> {
        let mut removed = Vec::new();
        for family in Family::ALL {
            let ours = self.our_routes(family, tables).await?;
            removed.extend(self.delete_routes(family, ours).await?);
        }
        Ok(removed)
    }

    async fn our_routes(
        &self,
        family: Family,
        tables: &RangeInclusive<u32>,
    ) -> Result<Vec<RouteMessage>, NetError> {
        let mut listed = self.listed_routes(family, None).await?;
        listed.retain(|route| is_ours(route) && tables.contains(&table_of(route)));
        Ok(listed)
    }

    /// Deletes as many as it can, and then tells the first failure.
    async fn delete_routes(
        &self,
        family: Family,
        listed: Vec<RouteMessage>,
    ) -> Result<Vec<TunnelRoute>, NetError> {
        let mut removed = Vec::new();
        let mut failure = None;
        for mut message in listed {
            let route = tunnel_route(family, &message);
            keep_what_identifies(&mut message);
            let deleted = self.handle.route().del(message).execute().await;
            let what = format!("{family} table {}: route of steer", route.table);
            match deleted.map_err(|error| NetError::request(what, error)) {
                Ok(()) => removed.push(route),
                // It went with its device, or somebody else was faster.
                Err(error) if error.errno() == Some(libc::ESRCH) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(removed), Err)
    }
}

/// `default dev …`, as `ip route` would make it.
fn wanted(family: Family, table: u32, ifindex: u32) -> RouteMessage {
    /// What the kernel makes of "no metric" in IPv6 (`IP6_RT_PRIO_USER`).
    const IPV6_METRIC: u32 = 1_024;
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family.number(),
        protocol: RouteProtocol::from(ROUTE_PROTOCOL),
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Table(table), RouteAttribute::Oif(ifindex)];
    match family {
        Family::V4 => message.header.scope = RouteScope::Link,
        Family::V6 => message
            .attributes
            .push(RouteAttribute::Priority(IPV6_METRIC)),
    }
    message
}

fn is_ours(route: &RouteMessage) -> bool {
    u8::from(route.header.protocol) == ROUTE_PROTOCOL
}

/// Whether the kernel would put `wanted` in the place of `route`: there is one
/// for each destination, source, type of service and metric.
fn replaces(wanted: &RouteMessage, route: &RouteMessage) -> bool {
    let place = |route: &RouteMessage| {
        (
            route.header.destination_prefix_length,
            route.header.source_prefix_length,
            route.header.tos,
            priority(route),
        )
    };
    place(wanted) == place(route)
}

/// Whether `route` does what `wanted` would.
fn is_same(wanted: &RouteMessage, route: &RouteMessage) -> bool {
    let does_more = route.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::MultiPath(_)
                | RouteAttribute::NhId(_)
                | RouteAttribute::Encap(_)
                | RouteAttribute::PrefSource(_)
                | RouteAttribute::Metrics(_)
        )
    });
    replaces(wanted, route)
        && route.header.kind == wanted.header.kind
        && oif(route) == oif(wanted)
        && !does_more
}

/// Leaves of a listed route what the kernel finds it by; the rest is its state.
fn keep_what_identifies(message: &mut RouteMessage) {
    message.header.flags = RouteFlags::empty();
    message.attributes.retain(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Destination(_)
                | RouteAttribute::Source(_)
                | RouteAttribute::Table(_)
                | RouteAttribute::Priority(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::Gateway(_)
        )
    });
}

/// Why the kernel refused a route to this device, if that is no failure of ours.
fn no_route(family: Family, device: &str, error: &NetError) -> Option<NoRoute> {
    if family.is_unknown(error) {
        return Some(NoRoute::NoIpv6);
    }
    match error.errno()? {
        libc::ENETDOWN => Some(NoRoute::DeviceDown),
        libc::EACCES if family == Family::V6 => Some(NoRoute::Ipv6Disabled),
        // IPv6 says the same of a device that it does not work on.
        libc::ENODEV if family == Family::V6 && sysctl::rp_filter(device).is_ok() => {
            Some(NoRoute::NoIpv6)
        }
        libc::ENODEV => Some(NoRoute::DeviceGone),
        _ => None,
    }
}

fn tunnel_route(family: Family, message: &RouteMessage) -> TunnelRoute {
    TunnelRoute {
        family,
        table: table_of(message),
        ifindex: oif(message),
    }
}

pub(super) fn table_of(route: &RouteMessage) -> u32 {
    let table = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    table.unwrap_or(route.header.table.into())
}

fn oif(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(ifindex) => Some(*ifindex),
            _ => None,
        })
}

pub(super) fn priority(route: &RouteMessage) -> u32 {
    let priority = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
    priority.unwrap_or(0)
}
