//! Asking the kernel what planning goes by.

use ipnet::IpNet;

use crate::{
    commands::Failure,
    net::{
        Devices, Family, NetError, Netfilter, Netlink, PacketOrigin, RouteQuery,
        sysctl::{self, RpFilter},
    },
    plan::{self, Forwarding, Machine},
    sys,
};

/// The machine as it is now. What netfilter does may remain unknown.
pub(in crate::commands) async fn ask<'a>(
    netlink: &Netlink,
    devices: &'a Devices,
) -> Result<Machine<'a>, Failure> {
    let mut strict = Vec::new();
    for device in devices {
        if sysctl::rp_filter_if_there(&device.name)?.is_some_and(RpFilter::is_strict) {
            strict.push(device.name.clone());
        }
    }
    Ok(Machine {
        devices,
        netfilter: Netfilter::read().map_err(|error| error.to_string()),
        strict,
        rules: netlink.rules().await?,
        memory_bytes: sys::memory_bytes()?,
    })
}

/// How the kernel forwards these prefixes, and lets in what comes by these tunnels.
pub(in crate::commands) async fn forwarding(
    netlink: &Netlink,
    prefixes: impl IntoIterator<Item = IpNet>,
    tunnels: impl IntoIterator<Item = &str>,
) -> Result<Forwarding, NetError> {
    let mut found = Forwarding::default();
    if !sysctl::ipv4_forwarding()? {
        found.off.push(Family::V4);
    }
    if sysctl::ipv6_forwarding()? == Some(false) {
        found.off.push(Family::V6);
    }
    for prefix in prefixes {
        let query = RouteQuery {
            destination: plan::sample(prefix),
            mark: 0,
            origin: PacketOrigin::Own,
        };
        let route = netlink.route_devices(&query).await?;
        found.routes.push((prefix, route));
    }
    for tunnel in tunnels {
        let filter: RpFilter = sysctl::rp_filter(tunnel)?;
        found.rp_filters.push((tunnel.to_owned(), filter));
    }
    Ok(found)
}
