//! What a change of tunnels leaves served: a group is, as long as one of its members takes new flows.
//! Routes make groups of some tunnels only, so a tunnel can be the last of those without being the last of all.

use std::collections::BTreeSet;

use ipnet::IpNet;
use steer_common::abi::{Admin, FlowEntry, GroupId, Health, Origin, Placer, TunnelId};

use super::{Change, Existing, ExistingTunnel, Pinned, PlanError, Target, TunnelChange, change};

/// The groups that have a tunnel for new flows, before and after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    before: BTreeSet<GroupId>,
    after: BTreeSet<GroupId>,
    /// The groups that routes made, of any home group.
    derived: BTreeSet<GroupId>,
    home: GroupId,
}

impl Served {
    /// Of a home group and of those that routes made from it.
    pub fn by(change: &Change, existing: &Existing, pinned: &Pinned) -> Self {
        let known: Vec<&ExistingTunnel> = existing
            .groups
            .iter()
            .filter(|group| group.id == change.group_id)
            .flat_map(|group| &group.tunnels)
            .collect();
        let is_down = |id: TunnelId| {
            let tunnel = known.iter().find(|tunnel| tunnel.id == id);
            tunnel.is_none_or(|tunnel| tunnel.health == Health::Down)
        };
        let taking = |state: fn(&TunnelChange) -> (u32, Admin)| -> BTreeSet<TunnelId> {
            let takes = |tunnel: &&TunnelChange| {
                let (weight, admin) = state(tunnel);
                weight > 0 && admin == Admin::Active && !is_down(tunnel.id)
            };
            let tunnels = change.tunnels.iter().filter(takes);
            tunnels.map(|tunnel| tunnel.id).collect()
        };
        let before = taking(|tunnel| (tunnel.weight_old, tunnel.admin_old));
        let after = taking(|tunnel| (tunnel.weight, tunnel.admin));
        let served = |taking: &BTreeSet<TunnelId>| {
            let derived = pinned
                .derived
                .iter()
                .filter(|group| group.parent == change.group_id)
                .filter(|group| group.hops.iter().any(|(id, _)| taking.contains(id)))
                .map(|group| group.id);
            let home = (!taking.is_empty()).then_some(change.group_id);
            home.into_iter().chain(derived).collect()
        };
        Self {
            before: served(&before),
            after: served(&after),
            derived: pinned.derived.iter().map(|group| group.id).collect(),
            home: change.group_id,
        }
    }

    /// The prefixes of routes that have a tunnel for new flows before, and none after.
    pub fn stranded(&self, pinned: &Pinned) -> Vec<IpNet> {
        let is_lost =
            |id: &GroupId| *id != self.home && self.before.contains(id) && !self.after.contains(id);
        let prefixes = pinned.prefixes.iter();
        prefixes
            .filter(|(_, target)| matches!(target, Target::Group(id) if is_lost(id)))
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    /// Whether the group of a flow has a tunnel for it after the change.
    pub fn has_tunnel_for(&self, entry: &FlowEntry) -> bool {
        let group = GroupId::try_from(entry.group).ok();
        // A group that is gone was one of routes; the flow is looked up again, most likely in the home group.
        let group = group.filter(|id| self.derived.contains(id));
        self.after.contains(&group.unwrap_or(self.home))
    }
}

/// What becomes of the live flows of a tunnel that takes none any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Another tunnel takes them, and this gateway may put them there.
    pub movable: u64,
    /// Another tunnel takes them, but the far gateway placed them.
    pub far: u64,
    /// Their source is the tunnel's own address, which the far end accepts from no other.
    pub pinned: u64,
    /// No other tunnel takes them.
    pub alone: u64,
}

impl Fate {
    /// Counts a live flow.
    pub fn add(&mut self, entry: &FlowEntry, served: &Served) {
        let count = if entry.origin == Origin::Pinned {
            &mut self.pinned
        } else if !served.has_tunnel_for(entry) {
            &mut self.alone
        } else if entry.placer == Placer::Far {
            &mut self.far
        } else {
            &mut self.movable
        };
        *count += 1;
    }

    /// Those that leave a disabled tunnel for another one.
    pub fn leave(self) -> u64 {
        self.movable + self.far
    }

    /// Those of a disabled tunnel that are left to the kernel.
    pub fn left_to_kernel(self) -> u64 {
        self.pinned + self.alone
    }
}

/// A tunnel gets no new flows, unless no other one would take them either: those of all its group, or
/// those to some prefixes.
pub fn drain(
    existing: &Existing,
    pinned: &Pinned,
    name: &str,
    force: bool,
) -> Result<Change, PlanError> {
    let change = change::drain(existing, name, force)?;
    let prefixes = Served::by(&change, existing, pinned).stranded(pinned);
    if force || prefixes.is_empty() {
        return Ok(change);
    }
    Err(PlanError::LastTunnelOfRoutes {
        name: name.to_owned(),
        prefixes,
    })
}

/// Notes what a change means for groups that follow routes.
pub fn note_routes(change: &mut Change, existing: &Existing, pinned: &Pinned) {
    let stranded = Served::by(change, existing, pinned).stranded(pinned);
    // With nothing left at all, another note tells it.
    let has_any = change.tunnels.iter().any(|tunnel| tunnel.share > 0.0);
    if has_any && !stranded.is_empty() {
        change.notes.push(format!(
            "no tunnel can get new flows to {}; their packets are left to the kernel (no_tunnel)",
            first_of(&stranded)
        ));
    }
    let is_of = |target: &Target| {
        matches!(target, Target::Group(id) if *id != change.group_id)
            && pinned.home_of(*target) == change.group_id
    };
    if pinned.prefixes.values().any(is_of) {
        change.notes.push(
            "the shares are by the tunnels' own weights; routes lead over some of them, with weights of theirs: steerctl status"
                .into(),
        );
    }
}

/// The first few of many prefixes.
pub(super) fn first_of(prefixes: &[IpNet]) -> String {
    const SHOWN: usize = 4;
    let mut shown: Vec<String> = prefixes
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    if prefixes.len() > SHOWN {
        shown.push(format!("{} more", prefixes.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use steer_common::abi::{Endpoint, Phase};

    use super::*;
    use crate::plan::{DerivedGroup, ExistingGroup, change_admin, change_weights};

    /// `wg0`, `wg1` and `wg2` in group 0; routes lead to one prefix by `wg1` alone, to one by it and `wg2`, and to
    /// one by all.
    fn sample() -> (Existing, Pinned) {
        let tunnel = |id: u8| ExistingTunnel {
            name: format!("wg{id}"),
            id,
            weight: 1,
            tier: 0,
            admin: Admin::Active,
            health: Health::Up,
            rp_filter_before: 0,
        };
        let existing = Existing {
            groups: vec![ExistingGroup {
                name: "default".into(),
                tunnels: (0..3).map(tunnel).collect(),
                ..ExistingGroup::default()
            }],
            ..Existing::default()
        };
        let derived = |id, hops: &[TunnelId]| DerivedGroup {
            id,
            parent: 0,
            hops: hops.iter().map(|tunnel| (*tunnel, 1)).collect(),
        };
        let prefix = |text: &str, id| (text.parse().expect("a prefix"), Target::Group(id));
        let pinned = Pinned {
            homes: vec![0],
            derived: vec![derived(63, &[1]), derived(62, &[1, 2])],
            prefixes: [
                prefix("10.2.0.0/16", 0),
                prefix("10.3.0.0/16", 63),
                prefix("10.4.0.0/16", 62),
            ]
            .into(),
        };
        (existing, pinned)
    }

    #[test]
    fn the_last_tunnel_of_a_route_is_not_drained() {
        let (mut existing, pinned) = sample();
        let drained = |existing: &Existing, name, force| drain(existing, &pinned, name, force);
        let refused = |existing: &Existing, name| {
            let error = drained(existing, name, false).expect_err("refused");
            (error.to_string(), error.hint().unwrap_or_default())
        };
        assert!(drained(&existing, "wg0", false).is_ok());
        assert!(drained(&existing, "wg2", false).is_ok());
        assert_eq!(
            refused(&existing, "wg1"),
            (
                "tunnel wg1: is the last that takes new flows to 10.3.0.0/16".into(),
                "drain wg1 --force leaves those to the kernel".into()
            )
        );
        assert!(drained(&existing, "wg1", true).is_ok());
        existing.groups[0].tunnels[2].health = Health::Down;
        let (message, _) = refused(&existing, "wg1");
        assert!(
            message.ends_with("to 10.3.0.0/16, 10.4.0.0/16"),
            "{message}"
        );
        // It takes none anyway.
        existing.groups[0].tunnels[1].weight = 0;
        assert!(drained(&existing, "wg1", false).is_ok());
        // Of all that is left, the group is named.
        existing.groups[0].tunnels[1].weight = 1;
        existing.groups[0].tunnels[0].admin = Admin::Drain;
        let (message, _) = refused(&existing, "wg1");
        assert_eq!(
            message,
            "tunnel wg1: is the last of group default that takes new flows"
        );
    }

    #[test]
    fn what_is_noted() {
        let (existing, pinned) = sample();
        let noted = |mut change: Change, pinned: &Pinned| {
            note_routes(&mut change, &existing, pinned);
            change.notes
        };
        let shares = "the shares are by the tunnels' own weights; routes lead over some of them, with weights of theirs: steerctl status";
        let stranded = "no tunnel can get new flows to 10.3.0.0/16; their packets are left to the kernel (no_tunnel)";
        let disabled = || change_admin(&existing, "wg1", Admin::Disabled).expect("known");
        assert_eq!(noted(disabled(), &pinned), [stranded, shares]);
        let zero = change_weights(&existing, None, &["wg1=0".parse().expect("a weight")]);
        assert_eq!(noted(zero.expect("known"), &pinned), [stranded, shares]);
        let other = change_admin(&existing, "wg0", Admin::Disabled).expect("known");
        assert_eq!(noted(other, &pinned), [shares]);
        assert_eq!(noted(disabled(), &Pinned::default()), [""; 0]);
    }

    #[test]
    fn what_becomes_of_flows() {
        let (existing, pinned) = sample();
        let change = change_admin(&existing, "wg1", Admin::Disabled).expect("known");
        let served = Served::by(&change, &existing, &pinned);
        let mut fate = Fate::default();
        let mut add = |group, origin, placer| {
            let entry = FlowEntry {
                created_ns: 0,
                last_seen_ns: 0,
                tx_packets: 0,
                rx_packets: 0,
                tx_bytes: 0,
                rx_bytes: 0,
                epoch: 1,
                tunnel: 1,
                group,
                home: 0,
                origin,
                local: Endpoint::Low,
                placer,
                phase: Phase::Open,
            };
            fate.add(&entry, &served);
        };
        add(0, Origin::Hashed, Placer::Near);
        add(62, Origin::Hashed, Placer::Near);
        add(62, Origin::Learned, Placer::Far);
        add(63, Origin::Hashed, Placer::Near);
        add(63, Origin::Learned, Placer::Far);
        add(0, Origin::Pinned, Placer::Near);
        // Of a group that is gone.
        add(61, Origin::Hashed, Placer::Near);
        let expected = Fate {
            movable: 3,
            far: 1,
            pinned: 1,
            alone: 2,
        };
        assert_eq!(fate, expected);
        assert_eq!((fate.leave(), fate.left_to_kernel()), (4, 3));
    }

    #[test]
    fn long_lists() {
        let prefixes: Vec<IpNet> = (0..6)
            .map(|n| format!("10.{n}.0.0/16").parse().expect("a prefix"))
            .collect();
        assert_eq!(
            first_of(&prefixes),
            "10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 2 more"
        );
        assert_eq!(first_of(&prefixes[..1]), "10.0.0.0/16");
    }
}
