//! How a plan differs from what there is.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use steer_common::abi::{GroupId, HookMode, HookOrder, TunnelId};

use super::{
    Existing, ExistingGroup, ExistingTunnel, GroupPlan, Idle, Plan, PlannedTunnel, mss_clamp_name,
};

/// How a plan differs from what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Each of them: first those of the whole gateway, then group by group.
    pub entries: Vec<Entry>,
    /// Tunnels whose flows move at their next packet, because they leave their group.
    pub leaving: Vec<TunnelId>,
    /// Prefixes whose flows are no longer steered, sorted. Those of routes may lie within each other.
    pub removed: Vec<IpNet>,
    /// Prefixes that are planned, none within another, sorted, and their groups.
    planned: Vec<(IpNet, GroupId)>,
    /// Whether a group gets prefixes that another one had.
    has_rehomed: bool,
    /// The same of those that are removed.
    removed_widest: Vec<IpNet>,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The group; `None` for what all groups have in common.
    pub group: Option<String>,
    /// The tunnel, prefix or device; `None` for the group or the gateway itself.
    pub object: Option<String>,
    /// How.
    pub kind: EntryKind,
}

/// How something differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// It is new.
    New,
    /// It leaves.
    Leaves,
    /// A property of it changes.
    Becomes {
        /// Which.
        what: &'static str,
        /// What it was.
        before: String,
        /// What it is.
        after: String,
    },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "group {group}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        match &self.kind {
            EntryKind::New => f.write_str("new"),
            EntryKind::Leaves => f.write_str("leaves"),
            EntryKind::Becomes {
                what,
                before,
                after,
            } => write!(f, "{what} {before} becomes {after}"),
        }
    }
}

impl Difference {
    /// Between what there is and a plan.
    pub fn of(existing: &Existing, plan: &Plan) -> Self {
        let mut found = Self::default();
        found.compare_settings(existing, plan);
        found.compare_lan(existing, plan);
        for group in &plan.groups {
            // One that is only called otherwise keeps its number.
            let mut known = existing.groups.iter();
            found.compare_group(known.find(|known| known.id == group.id), group);
        }
        let leaving = existing.groups.iter();
        for group in leaving.filter(|group| plan.leaving.contains(&group.id)) {
            found.add(Some(&group.name), None, EntryKind::Leaves);
            let tunnels = group.tunnels.iter().map(|tunnel| tunnel.id);
            found.leaving.extend(tunnels);
            found.removed.extend(&group.prefixes);
        }
        // What one group loses another one may have now.
        let of_groups = plan.groups.iter().flat_map(|group| {
            let prefixes = group.prefixes.iter();
            prefixes.map(|prefix| (*prefix, group.id))
        });
        let mut planned: Vec<(IpNet, GroupId)> = of_groups.collect();
        planned.sort();
        let is_planned =
            |prefix: &IpNet| planned.binary_search_by_key(prefix, |(of, _)| *of).is_ok();
        found.removed.retain(|prefix| !is_planned(prefix));
        found.removed.sort();
        found.removed_widest = widest(&found.removed);
        // Given prefixes do not overlap.
        found.planned = planned;
        found.has_rehomed = existing.groups.iter().any(|group| {
            let mut prefixes = group.prefixes.iter();
            prefixes.any(|prefix| found.rehomes(group.id.into(), prefix.network()))
        });
        for change in &plan.sysctls {
            let object = Some(format!("sysctl {}", change.name));
            let (from, to) = (change.from.to_string(), change.to.to_string());
            found.compare(None, object, "value", from, to);
        }
        found
    }

    /// Whether flows to this address are no longer steered.
    pub fn releases(&self, remote: IpAddr) -> bool {
        let removed = holder(&self.removed_widest, |prefix| *prefix, remote);
        removed.is_some() && self.planned_for(remote).is_none()
    }

    /// Whether flows of this home group to this address are those of another group then, whose tunnels are others.
    pub fn rehomes(&self, home: u32, remote: IpAddr) -> bool {
        let planned = self.planned_for(remote);
        planned.is_some_and(|id| u32::from(id) != home)
    }

    /// Whether any live flow may move or be released.
    pub fn concerns_flows(&self) -> bool {
        self.has_rehomed || !self.leaving.is_empty() || !self.removed.is_empty()
    }

    /// The group that is planned for an address.
    fn planned_for(&self, remote: IpAddr) -> Option<GroupId> {
        holder(&self.planned, |(prefix, _)| *prefix, remote).map(|(_, id)| *id)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn add(&mut self, group: Option<&str>, object: Option<String>, kind: EntryKind) {
        self.entries.push(Entry {
            group: group.map(ToOwned::to_owned),
            object,
            kind,
        });
    }

    /// Adds a property that changes.
    fn compare(
        &mut self,
        group: Option<&str>,
        object: Option<String>,
        what: &'static str,
        before: String,
        after: String,
    ) {
        if before != after {
            let kind = EntryKind::Becomes {
                what,
                before,
                after,
            };
            self.add(group, object, kind);
        }
    }

    fn compare_settings(&mut self, existing: &Existing, plan: &Plan) {
        let mask = |bits| match bits {
            0 => "none".to_owned(),
            bits => format!("{bits:#010x}"),
        };
        let seed = |seed: Option<u64>| seed.map_or_else(String::new, |seed| format!("{seed:#x}"));
        let hook = |mode: HookMode| mode.name().to_owned();
        let marks = plan.marks.map_or(0, |marks| marks.mask.bits());
        let clamp = mss_clamp_name;
        for (what, before, after) in [
            ("hook", hook(existing.hook), hook(plan.mode)),
            (
                "MSS clamp",
                clamp(existing.mss_clamp),
                clamp(plan.mss_clamp),
            ),
            ("mark mask", mask(existing.mark_mask), mask(marks)),
            ("seed", seed(existing.seed), seed(plan.seed)),
        ] {
            self.compare(None, None, what, before, after);
        }
        let time = |time| humantime::format_duration(time).to_string();
        let times = |idle: Idle| {
            [
                ("idle tcp", time(idle.tcp)),
                ("idle closing", time(idle.closing)),
                ("idle udp", time(idle.udp)),
                ("idle other", time(idle.other)),
            ]
        };
        let before = times(existing.idle.unwrap_or(plan.idle));
        for ((what, before), (_, after)) in before.into_iter().zip(times(plan.idle)) {
            self.compare(None, None, what, before, after);
        }
    }

    /// LAN devices steer for all groups.
    fn compare_lan(&mut self, existing: &Existing, plan: &Plan) {
        let object = |name: &str| Some(format!("device {name}"));
        let known = || existing.groups.iter().flat_map(|group| &group.ifaces);
        let planned = plan.lan_devices();
        for (hook, _) in &planned {
            if !known().any(|name| *name == hook.name) {
                self.add(None, object(&hook.name), EntryKind::New);
            }
        }
        for group in &existing.groups {
            for name in group
                .ifaces
                .iter()
                .filter(|_| plan.concerns(group.id.into()))
            {
                if planned.iter().all(|(hook, _)| hook.name != *name) {
                    self.add(None, object(name), EntryKind::Leaves);
                }
            }
        }
    }

    fn compare_group(&mut self, known: Option<&ExistingGroup>, planned: &GroupPlan) {
        let group = Some(planned.name.as_str());
        let nothing = ExistingGroup::default();
        match known {
            None => self.add(group, None, EntryKind::New),
            Some(known) => {
                let (before, after) = (known.name.clone(), planned.name.clone());
                self.compare(group, None, "name", before, after);
                let name = |order| match order {
                    HookOrder::First => "first".to_owned(),
                    HookOrder::Last => "last".to_owned(),
                };
                let before = name(known.order.unwrap_or(planned.order));
                self.compare(group, None, "order", before, name(planned.order));
            }
        }
        let group_is_known = known.is_some();
        let known = known.unwrap_or(&nothing);
        for tunnel in &planned.tunnels {
            let same = |known: &&ExistingTunnel| known.name == tunnel.name;
            self.compare_tunnel(group, known.tunnels.iter().find(same), tunnel);
        }
        for tunnel in &known.tunnels {
            if planned.tunnels.iter().all(|t| t.name != tunnel.name) {
                let object = Some(format!("tunnel {}", tunnel.name));
                self.add(group, object, EntryKind::Leaves);
                self.leaving.push(tunnel.id);
            }
        }
        let source = |follows_routes| {
            let words = if follows_routes {
                "the kernel's routes"
            } else {
                "given ones"
            };
            words.to_owned()
        };
        let (before, after) = (known.follows_routes, planned.follows_routes);
        if group_is_known {
            self.compare(group, None, "prefixes", source(before), source(after));
        }
        if after {
            // The routes say which.
            return;
        }
        let mut placed = known.prefixes.clone();
        placed.sort();
        let object = |prefix: &IpNet| Some(format!("prefix {prefix}"));
        for prefix in &planned.prefixes {
            if placed.binary_search(prefix).is_err() {
                self.add(group, object(prefix), EntryKind::New);
            }
        }
        for prefix in placed {
            if planned.prefixes.binary_search(&prefix).is_err() {
                self.add(group, object(&prefix), EntryKind::Leaves);
                self.removed.push(prefix);
            }
        }
    }

    fn compare_tunnel(
        &mut self,
        group: Option<&str>,
        known: Option<&ExistingTunnel>,
        planned: &PlannedTunnel,
    ) {
        let object = || Some(format!("tunnel {}", planned.name));
        let Some(known) = known else {
            self.add(group, object(), EntryKind::New);
            return;
        };
        if known.id != planned.id {
            self.leaving.push(known.id);
        }
        for (what, before, after) in [
            ("weight", known.weight, planned.weight),
            ("tier", known.tier, planned.tier),
            ("id", known.id.into(), planned.id.into()),
        ] {
            self.compare(group, object(), what, before.to_string(), after.to_string());
        }
    }
}

/// Sorted prefixes without those that lie within others.
fn widest(sorted: &[IpNet]) -> Vec<IpNet> {
    let mut found: Vec<IpNet> = Vec::new();
    for prefix in sorted {
        // Sorted, a prefix comes behind those that contain it.
        if found.last().is_none_or(|last| !last.contains(prefix)) {
            found.push(*prefix);
        }
    }
    found
}

/// The one of these, of which none lies within another, whose prefix contains an address.
fn holder<T>(sorted: &[T], prefix: impl Fn(&T) -> IpNet, address: IpAddr) -> Option<&T> {
    // Only the last that begins before it can.
    let behind = sorted.partition_point(|item| prefix(item).network() <= address);
    let before = sorted.get(behind.checked_sub(1)?)?;
    prefix(before).contains(&address).then_some(before)
}
