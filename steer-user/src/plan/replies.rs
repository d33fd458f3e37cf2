//! Whether the kernel forwards what steer leaves to it: routes, forwarding, reverse path filters.

use ipnet::IpNet;
use steer_common::abi::HookMode;

use super::{GroupPlan, Plan, PlanError};
use crate::net::sysctl::{RpFilter, rp_filter_name};
use crate::net::{Devices, Family, KernelRoute};

/// The `rp_filter` of a device that replies may come in by, whatever the route back is.
pub const RP_FILTER_LOOSE: u32 = 2;

/// How the kernel forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Families that are not forwarded.
    pub off: Vec<Family>,
    /// The kernel's own route to each prefix.
    pub routes: Vec<(IpNet, KernelRoute)>,
    /// Reverse path filtering of the tunnels that exist, by name.
    pub rp_filters: Vec<(String, RpFilter)>,
}

/// A sysctl that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlChange {
    /// The tunnel whose device it is about.
    pub tunnel: String,
    /// Its name.
    pub name: String,
    /// Its value now.
    pub from: u32,
    /// Its value then.
    pub to: u32,
}

impl Plan {
    /// Checks how the kernel forwards: plans what of it is to be changed, and notes what an
    /// operator should change.
    pub fn check_forwarding(
        &mut self,
        forwarding: &Forwarding,
        devices: &Devices,
    ) -> Result<(), PlanError> {
        self.note_forwarding(forwarding, devices);
        let (mut notes, mut sysctls) = (Vec::new(), Vec::new());
        for group in &mut self.groups {
            let routes = group.routes(forwarding);
            for tunnel in &mut group.tunnels {
                let mut filters = forwarding.rp_filters.iter();
                let Some((_, filter)) = filters.find(|(name, _)| *name == tunnel.name) else {
                    continue;
                };
                let name = rp_filter_name(&tunnel.name);
                let error = match drops_replies(tunnel.ifindex, *filter, &routes) {
                    Some(prefix) => PlanError::StrictReversePath {
                        tunnel: tunnel.name.clone(),
                        prefix,
                        sysctl: name.clone(),
                    },
                    // What the routes are now says nothing of later.
                    None if group.follows_routes && filter.is_strict() => {
                        PlanError::StrictWithRoutes {
                            tunnel: tunnel.name.clone(),
                            sysctl: name.clone(),
                        }
                    }
                    None => continue,
                };
                if self.fix || tunnel.rp_filter_before != 0 {
                    tunnel.rp_filter_before = filter.device + 1;
                    notes.push(format!(
                        "{name}: {} becomes {RP_FILTER_LOOSE} until detach",
                        filter.device
                    ));
                    sysctls.push(SysctlChange {
                        tunnel: tunnel.name.clone(),
                        name,
                        from: filter.device,
                        to: RP_FILTER_LOOSE,
                    });
                    continue;
                }
                if !tunnel.is_known {
                    return Err(error);
                }
                notes.push(error.to_string());
            }
        }
        self.notes.append(&mut notes);
        self.sysctls.append(&mut sysctls);
        Ok(())
    }

    fn note_forwarding(&mut self, forwarding: &Forwarding, devices: &Devices) {
        let mut notes = Vec::new();
        for family in &forwarding.off {
            let is_used = |prefix: IpNet| Family::from(prefix.addr()) == *family;
            let follows_routes = self.groups.iter().any(|group| group.follows_routes);
            if follows_routes || self.prefixes().any(is_used) {
                notes.push(not_forwarded(*family, self.mode));
            }
        }
        for group in &self.groups {
            let tunnels: Vec<u32> = group.tunnels.iter().map(|tunnel| tunnel.ifindex).collect();
            for astray in astray(&group.routes(forwarding), &tunnels, devices) {
                notes.push(astray.note(self.mode));
            }
        }
        self.notes.append(&mut notes);
    }
}

impl GroupPlan {
    /// The kernel's routes to this group's prefixes.
    fn routes(&self, forwarding: &Forwarding) -> Vec<(IpNet, KernelRoute)> {
        let routes = forwarding.routes.iter();
        let of_group =
            |(prefix, _): &&(IpNet, KernelRoute)| self.prefixes.binary_search(prefix).is_ok();
        routes.filter(of_group).cloned().collect()
    }
}

/// The prefix from which replies that come by a tunnel would be dropped: its reverse path filter is
/// strict, and the kernel's route is not by it. IPv6 has no such filter but in netfilter.
pub(super) fn drops_replies(
    ifindex: u32,
    filter: RpFilter,
    routes: &[(IpNet, KernelRoute)],
) -> Option<IpNet> {
    let is_dropped = |(prefix, route): &&(IpNet, KernelRoute)| {
        let is_by_tunnel =
            matches!(route, KernelRoute::Devices(numbers) if numbers.contains(&ifindex));
        matches!(prefix, IpNet::V4(_)) && !is_by_tunnel
    };
    let dropped = routes.iter().find(is_dropped)?;
    filter.is_strict().then_some(dropped.0)
}

/// The sysctl that switches forwarding on.
pub(super) fn forwarding_sysctl(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    }
}

/// What it means that a family is not forwarded.
pub(super) fn not_forwarded(family: Family, mode: HookMode) -> String {
    let what = match mode {
        HookMode::Ingress | HookMode::Unset => "what steer leaves to the kernel is not forwarded",
        HookMode::Egress | HookMode::Mark => "only this gateway's own packets reach the tunnels",
    };
    let sysctl = forwarding_sysctl(family);
    format!("{family} forwarding is off: {what} ({sysctl}=0)")
}

/// Prefixes to which the kernel's routes do not lead by a tunnel.
pub(super) struct Astray {
    /// Where they lead.
    pub(super) leads: String,
    /// At least one.
    pub(super) prefixes: Vec<IpNet>,
}

impl Astray {
    /// What it means.
    pub(super) fn note(&self, mode: HookMode) -> String {
        let what = match mode {
            HookMode::Egress => "nothing of it reaches the tunnels",
            HookMode::Mark => "this gateway's own packets do not reach the tunnels",
            _ => "what steer leaves to the kernel does not reach the tunnels",
        };
        let more = match self.prefixes.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}: {}: {what}", self.prefixes[0], self.leads)
    }
}

/// All such prefixes, by where their routes lead.
pub(super) fn astray(
    routes: &[(IpNet, KernelRoute)],
    tunnels: &[u32],
    devices: &Devices,
) -> Vec<Astray> {
    let mut found: Vec<Astray> = Vec::new();
    for (prefix, route) in routes {
        let Some(leads) = leads_astray(route, tunnels, devices) else {
            continue;
        };
        match found.iter_mut().find(|known| known.leads == leads) {
            Some(known) => known.prefixes.push(*prefix),
            None => found.push(Astray {
                leads,
                prefixes: vec![*prefix],
            }),
        }
    }
    found
}

/// Where a route leads that does not lead to a tunnel.
fn leads_astray(route: &KernelRoute, tunnels: &[u32], devices: &Devices) -> Option<String> {
    let KernelRoute::Devices(numbers) = route else {
        let is_local = *route == KernelRoute::Local;
        return Some(if is_local {
            "the kernel takes it for this gateway".into()
        } else {
            "the kernel has no route".into()
        });
    };
    if numbers.iter().any(|number| tunnels.contains(number)) {
        return None;
    }
    let device = numbers.first().and_then(|number| devices.by_index(*number));
    let name = device.map_or("elsewhere", |device| device.name.as_str());
    Some(format!("the kernel's route leads to {name}"))
}

/// The address of a prefix that stands for all when the kernel is asked for a route.
pub fn sample(prefix: IpNet) -> std::net::IpAddr {
    let mut hosts = prefix.hosts();
    let first = hosts.next().unwrap_or(prefix.addr());
    match prefix {
        IpNet::V4(_) => first,
        // The first one belongs to the routers (RFC 4291 section 2.6.1).
        IpNet::V6(_) => hosts.next().unwrap_or(first),
    }
}

#[cfg(test)]
mod tests;
