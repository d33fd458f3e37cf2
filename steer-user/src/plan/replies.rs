//! Whether the kernel forwards what steer leaves to it: routes, forwarding, reverse path filters.

use ipnet::IpNet;
use steer_common::abi::HookMode;

use super::{Plan, PlanError};
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
        for tunnel in &mut self.tunnels {
            let filter = forwarding
                .rp_filters
                .iter()
                .find(|(name, _)| *name == tunnel.name);
            let Some((_, filter)) = filter else { continue };
            let dropped = forwarding.routes.iter().find(|(prefix, route)| {
                // IPv6 has no such filter but in netfilter.
                let is_by_tunnel = matches!(
                    route,
                    KernelRoute::Devices(numbers) if numbers.contains(&tunnel.ifindex)
                );
                matches!(prefix, IpNet::V4(_)) && !is_by_tunnel
            });
            let sysctl = rp_filter_name(&tunnel.name);
            let error = match dropped {
                Some((prefix, _)) => PlanError::StrictReversePath {
                    tunnel: tunnel.name.clone(),
                    prefix: *prefix,
                    sysctl: sysctl.clone(),
                },
                // What the routes are now says nothing of later.
                None if self.follows_routes => PlanError::StrictWithRoutes {
                    tunnel: tunnel.name.clone(),
                    sysctl: sysctl.clone(),
                },
                None => continue,
            };
            if !filter.is_strict() {
                continue;
            }
            if self.fix || tunnel.rp_filter_before != 0 {
                tunnel.rp_filter_before = filter.device + 1;
                self.notes.push(format!(
                    "{sysctl}: {} becomes {RP_FILTER_LOOSE} until detach",
                    filter.device
                ));
                self.sysctls.push(SysctlChange {
                    tunnel: tunnel.name.clone(),
                    name: sysctl,
                    from: filter.device,
                    to: RP_FILTER_LOOSE,
                });
                continue;
            }
            if !tunnel.is_known {
                return Err(error);
            }
            self.notes.push(error.to_string());
        }
        Ok(())
    }

    fn note_forwarding(&mut self, forwarding: &Forwarding, devices: &Devices) {
        for family in &forwarding.off {
            let is_used = |prefix: &IpNet| Family::from(prefix.addr()) == *family;
            if !self.follows_routes && !self.prefixes.iter().any(is_used) {
                continue;
            }
            let sysctl = match family {
                Family::V4 => "net.ipv4.ip_forward",
                Family::V6 => "net.ipv6.conf.all.forwarding",
            };
            let what = match self.mode {
                HookMode::Ingress => "what steer leaves to the kernel is not forwarded",
                _ => "only this gateway's own packets reach the tunnels",
            };
            self.notes
                .push(format!("{family} forwarding is off: {what} ({sysctl}=0)"));
        }
        let what = match self.mode {
            HookMode::Egress => "nothing of it reaches the tunnels",
            HookMode::Mark => "this gateway's own packets do not reach the tunnels",
            _ => "what steer leaves to the kernel does not reach the tunnels",
        };
        let mut astray: Vec<(String, Vec<IpNet>)> = Vec::new();
        for (prefix, route) in &forwarding.routes {
            let Some(leads) = self.leads_astray(route, devices) else {
                continue;
            };
            match astray.iter_mut().find(|(known, _)| *known == leads) {
                Some((_, prefixes)) => prefixes.push(*prefix),
                None => astray.push((leads, vec![*prefix])),
            }
        }
        for (leads, prefixes) in astray {
            let more = match prefixes.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.notes
                .push(format!("{}{more}: {leads}: {what}", prefixes[0]));
        }
    }

    /// Where a route leads that does not lead to a tunnel.
    fn leads_astray(&self, route: &KernelRoute, devices: &Devices) -> Option<String> {
        let KernelRoute::Devices(numbers) = route else {
            let is_local = *route == KernelRoute::Local;
            return Some(if is_local {
                "the kernel takes it for this gateway".into()
            } else {
                "the kernel has no route".into()
            });
        };
        let is_tunnel = |number: &u32| self.tunnels.iter().any(|t| t.ifindex == *number);
        if numbers.iter().any(is_tunnel) {
            return None;
        }
        let device = numbers.first().and_then(|number| devices.by_index(*number));
        let name = device.map_or("elsewhere", |device| device.name.as_str());
        Some(format!("the kernel's route leads to {name}"))
    }
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
