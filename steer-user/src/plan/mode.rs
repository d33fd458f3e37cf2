//! How to steer: on the LAN devices, on the tunnels, or by marks; and what becomes of the MSS.

use ipnet::IpNet;
use steer_common::abi::{HookMode, MSS_CLAMP_MTU};

use super::{
    Existing, GroupPlan, HookChoice, Machine, MssClamp, PlanError, PlannedTunnel, Request,
};
use crate::net::{Finding, FindingKind, Netfilter, PacketFamily, sysctl::rp_filter_name};

/// What the choice depends on besides the request.
pub(super) struct Facts<'a> {
    pub(super) machine: &'a Machine<'a>,
    pub(super) existing: &'a Existing,
    /// Names of the LAN devices, and of the VLAN devices on them.
    pub(super) lan: Vec<&'a str>,
    /// The groups that are made or changed.
    pub(super) groups: &'a [GroupPlan],
}

/// What was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) mode: HookMode,
    pub(super) mss_clamp: u32,
}

/// What of netfilter matters for these devices and prefixes.
#[derive(Default)]
pub(super) struct Ruleset<'a> {
    /// What is on the way of packets between the LAN and the tunnels.
    on_the_way: Vec<&'a Finding>,
    /// Source NAT that what leaves by a tunnel may meet.
    nat: Option<&'a Finding>,
    /// Filters of a tunnel's own for what leaves by it.
    on_exit: Option<&'a Finding>,
    mss_clamp: Option<&'a Finding>,
}

/// Chooses.
pub(super) fn choose(
    request: &Request,
    facts: &Facts<'_>,
    notes: &mut Vec<String>,
) -> Result<Choice, PlanError> {
    let before = facts.existing.hook;
    let netfilter = facts.machine.netfilter.as_ref();
    let ruleset = netfilter.ok().map(|netfilter| facts.ruleset(netfilter));
    let wanted = match request.hook {
        Some(HookChoice::Mode(mode)) => Some(mode),
        None if before != HookMode::Unset => Some(before),
        _ => None,
    };
    let mode = if let Some(mode) = wanted {
        let is_kept = facts.groups.iter().all(|group| group.is_known)
            && mode == before
            && request.hook.is_none();
        // A gateway that steers by hand does not need the answer; one that asks for it does.
        let known = match (&ruleset, netfilter) {
            (Some(ruleset), _) => ruleset,
            (None, Err(cause))
                if mode == HookMode::Ingress && !request.bypass_netfilter && !is_kept =>
            {
                let cause = cause.clone();
                return Err(PlanError::NetfilterUnknown { cause });
            }
            (None, _) => &Ruleset::default(),
        };
        match facts.objection(mode, known, request.bypass_netfilter, notes) {
            // What is there already goes on; it is no better for not being followed.
            Some(error) if is_kept => notes.push(error.to_string()),
            Some(error) => return Err(error),
            None => {}
        }
        mode
    } else {
        let unknown = || PlanError::NetfilterUnknown {
            cause: netfilter.err().cloned().unwrap_or_default(),
        };
        let (mode, why) = facts.automatic(ruleset.as_ref().ok_or_else(unknown)?);
        notes.push(format!("hook {}: {why}", mode.name()));
        mode
    };
    facts.check_other_groups(mode, request)?;
    let mss_clamp = facts.mss_clamp(mode, request.mss_clamp, ruleset.as_ref(), notes);
    Ok(Choice { mode, mss_clamp })
}

impl<'a> Facts<'a> {
    /// The mode that this gateway needs, and why.
    fn automatic(&self, ruleset: &Ruleset<'_>) -> (HookMode, String) {
        if let Some(nat) = ruleset.nat {
            let why = format!("{} translates what leaves by a tunnel", nat.place);
            return (HookMode::Mark, why);
        }
        let why = if let Some(first) = ruleset.on_the_way.first() {
            format!("{} {}", first.place, does(&first.kind))
        } else if let Some(sysctl) = self.strict_lan() {
            format!("{sysctl} is strict")
        } else {
            let why = if ruleset.mss_clamp.is_some() {
                "nothing on this gateway but an MSS clamp looks at forwarded packets"
            } else {
                "nothing on this gateway looks at forwarded packets"
            };
            return (HookMode::Ingress, why.into());
        };
        if self.unequal_mtus().is_some() {
            return (
                HookMode::Mark,
                format!("{why}, and the tunnels' MTUs differ"),
            );
        }
        if let Some(exit) = ruleset.on_exit {
            let why = format!("{why}, and {} is on what leaves by a tunnel", exit.place);
            return (HookMode::Mark, why);
        }
        (HookMode::Egress, why)
    }

    /// Why a mode would do harm here.
    pub(super) fn objection(
        &self,
        mode: HookMode,
        ruleset: &Ruleset<'_>,
        bypass: bool,
        notes: &mut Vec<String>,
    ) -> Option<PlanError> {
        match mode {
            HookMode::Ingress => {
                if let Some(sysctl) = self.strict_lan() {
                    notes.push(format!(
                        "hook ingress: steered packets bypass {sysctl}, which is strict"
                    ));
                }
                let first = ruleset.on_the_way.first().or(ruleset.nat.as_ref())?;
                let place = first.place.clone();
                if bypass {
                    notes.push(format!("hook ingress: steered packets bypass {place}"));
                    return None;
                }
                let does = does(&first.kind);
                Some(PlanError::Bypasses { mode, place, does })
            }
            HookMode::Egress => {
                if let Some(mtus) = self.unequal_mtus() {
                    return Some(PlanError::UnequalMtus { mtus });
                }
                if let Some(nat) = ruleset.nat {
                    notes.push(format!(
                        "hook egress: flows that {} translates stay on the tunnel of the kernel's \
                         route; --hook mark spreads them",
                        nat.place
                    ));
                }
                let exit = ruleset.on_exit?;
                if bypass {
                    return None;
                }
                Some(PlanError::Bypasses {
                    mode,
                    place: exit.place.clone(),
                    does: does(&exit.kind),
                })
            }
            HookMode::Mark | HookMode::Unset => None,
        }
    }

    /// The sysctl by which the kernel checks the sources of what enters by a LAN device (IPv4 only).
    fn strict_lan(&self) -> Option<String> {
        let is_strict = |name: &&&str| self.machine.strict.iter().any(|strict| strict == **name);
        self.has_prefix_of(PacketFamily::Ipv4)
            .then(|| self.lan.iter().find(is_strict))?
            .map(|name| rp_filter_name(name))
    }

    /// There is one mode for all groups.
    fn check_other_groups(&self, mode: HookMode, request: &Request) -> Result<(), PlanError> {
        let before = self.existing.hook;
        if before == HookMode::Unset || before == mode {
            return Ok(());
        }
        let mut others = self.existing.groups.iter();
        match others.find(|other| request.group(&other.name).is_none()) {
            Some(other) => Err(PlanError::OtherMode {
                mode,
                before,
                group: other.name.clone(),
            }),
            None => Ok(()),
        }
    }

    fn mss_clamp(
        &self,
        mode: HookMode,
        wanted: Option<MssClamp>,
        ruleset: Option<&Ruleset<'_>>,
        notes: &mut Vec<String>,
    ) -> u32 {
        let before = self.existing.mss_clamp;
        match wanted {
            Some(MssClamp::Off) => 0,
            Some(MssClamp::At(mss)) => mss,
            // What was asked for stays; what was chosen stays with the mode that it was chosen for.
            None if before > MSS_CLAMP_MTU || mode == self.existing.hook => before,
            None | Some(MssClamp::Auto) => {
                let clamp = ruleset.and_then(|ruleset| ruleset.mss_clamp);
                let Some(clamp) = clamp.filter(|_| mode == HookMode::Ingress) else {
                    return 0;
                };
                notes.push(format!(
                    "MSS clamped to the tunnels' MTU: hook ingress bypasses {}, which does so",
                    clamp.place
                ));
                MSS_CLAMP_MTU
            }
        }
    }

    /// The MTUs of the first group whose tunnels have different ones.
    fn unequal_mtus(&self) -> Option<String> {
        self.groups.iter().find_map(|group| {
            let there = group.tunnels.iter().filter(|tunnel| tunnel.ifindex != 0);
            unequal_mtus(there.map(|tunnel| (tunnel.name.as_str(), tunnel.mtu_bytes)))
        })
    }

    fn tunnels(&self) -> impl Iterator<Item = &PlannedTunnel> {
        self.groups.iter().flat_map(|group| &group.tunnels)
    }

    fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.groups.iter().flat_map(|group| &group.prefixes)
    }

    /// What of netfilter matters here.
    pub(super) fn ruleset(&self, netfilter: &'a Netfilter) -> Ruleset<'a> {
        let mut found = Ruleset::default();
        let is_tunnel = |of: &dyn Fn(&str) -> bool| self.tunnels().any(|t| of(&t.name));
        let is_lan = |of: &dyn Fn(&str) -> bool| self.lan.iter().any(|name| of(name));
        for finding in &netfilter.findings {
            if !self.has_prefix_of(finding.family) {
                continue;
            }
            match &finding.kind {
                FindingKind::SourceNat { may_leave_by } => {
                    let of = |name: &str| may_leave_by.contains(name);
                    if is_tunnel(&of) {
                        found.nat.get_or_insert(finding);
                    } else if is_lan(&of) {
                        found.on_the_way.push(finding);
                    }
                }
                FindingKind::MssClamp => {
                    found.mss_clamp.get_or_insert(finding);
                }
                FindingKind::DeviceFilter { devices, ingress } => {
                    let of = |name: &str| devices.contains(name);
                    match ingress {
                        true if is_tunnel(&of) || is_lan(&of) => found.on_the_way.push(finding),
                        // Redirected packets pass what is on the LAN's exit, and those of one
                        // tunnel's exit were redirected behind it.
                        false if is_tunnel(&of) => {
                            found.on_exit.get_or_insert(finding);
                        }
                        _ => {}
                    }
                }
                FindingKind::Stateful
                | FindingKind::DestinationNat
                | FindingKind::TransparentProxy
                | FindingKind::Filter => found.on_the_way.push(finding),
            }
        }
        found
    }

    fn has_prefix_of(&self, family: PacketFamily) -> bool {
        let is_of = |prefix: &IpNet| match family {
            PacketFamily::Both => true,
            PacketFamily::Ipv4 => matches!(prefix, IpNet::V4(_)),
            PacketFamily::Ipv6 => matches!(prefix, IpNet::V6(_)),
        };
        self.groups.iter().any(|group| group.follows_routes) || self.prefixes().any(is_of)
    }
}

/// The MTUs of some tunnels, if they differ.
pub fn unequal_mtus<'a>(tunnels: impl IntoIterator<Item = (&'a str, u32)>) -> Option<String> {
    let tunnels: Vec<_> = tunnels.into_iter().collect();
    let first = tunnels.first()?.1;
    if tunnels.iter().all(|(_, mtu_bytes)| *mtu_bytes == first) {
        return None;
    }
    let told = tunnels
        .iter()
        .map(|(name, mtu_bytes)| format!("{name} {mtu_bytes}"));
    Some(told.collect::<Vec<_>>().join(", "))
}

/// [`Settings::mss_clamp`](steer_common::abi::Settings::mss_clamp) in words: `off`, `mtu` (what fits
/// through the tunnel) or the number.
pub fn mss_clamp_name(value: u32) -> String {
    match value {
        0 => "off".into(),
        MSS_CLAMP_MTU => "mtu".into(),
        mss => mss.to_string(),
    }
}

/// Fits after the place of the finding.
fn does(kind: &FindingKind) -> &'static str {
    match kind {
        FindingKind::Stateful => "tracks connections",
        FindingKind::SourceNat { .. } => "translates source addresses",
        FindingKind::DestinationNat => "translates destination addresses",
        FindingKind::MssClamp => "clamps the MSS",
        FindingKind::TransparentProxy => "gives packets to a proxy",
        FindingKind::Filter | FindingKind::DeviceFilter { .. } => "filters packets",
    }
}

#[cfg(test)]
mod tests;
