//! From the kernel's routes to groups and prefixes.
//!
//! A prefix whose route leads through tunnels of a home group, and through nothing else, is steered over just
//! these: by the home group itself, or by a derived group for that choice of tunnels and weights. A
//! longer prefix inside it whose route leads elsewhere becomes a hole: its packets are left to the
//! kernel, as they would be without steer.

mod choice;
mod left;
mod steps;
mod walk;

use std::collections::BTreeMap;

use ipnet::IpNet;
use steer_common::abi::{GroupId, TunnelId};

pub use left::{Left, LeftReason};
pub use steps::{GroupCount, Steps};

use crate::net::{ROUTE_TABLE_MAIN, Route, RouteTable};
use choice::{Choice, choose};

/// Which of the kernel's routes a group follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowRoutes {
    /// Their tables, in the order in which they are looked up: of two routes to one prefix that of
    /// the earlier table counts.
    pub tables: Vec<u32>,
    /// Who made them (`RTPROT_…`); none for everybody but the kernel, whose routes are to the devices' own
    /// networks.
    pub protocols: Vec<u8>,
    /// Their largest metric.
    pub metric_max: Option<u32>,
}

impl Default for FollowRoutes {
    fn default() -> Self {
        Self {
            tables: vec![ROUTE_TABLE_MAIN],
            protocols: Vec::new(),
            metric_max: None,
        }
    }
}

impl FollowRoutes {
    fn takes(&self, route: &Route) -> bool {
        /// `RTPROT_KERNEL` of `linux/rtnetlink.h`.
        const KERNEL: u8 = 2;
        let by_whom = if self.protocols.is_empty() {
            route.protocol != KERNEL
        } else {
            self.protocols.contains(&route.protocol)
        };
        by_whom && self.metric_max.is_none_or(|max| route.metric <= max)
    }
}

/// A home group that follows routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// The group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Which routes.
    pub routes: FollowRoutes,
    /// All its tunnels and the numbers of their devices, 0 where there is none now.
    pub tunnels: Vec<(TunnelId, u32)>,
}

/// The tunnels that a route leads through, in the order of their ids, and the weights of its next
/// hops, which have no common divisor.
pub type HopSet = Vec<(TunnelId, u32)>;

/// A derived group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedGroup {
    /// Its number.
    pub id: GroupId,
    /// Its home group.
    pub parent: GroupId,
    /// What it consists of, for ever.
    pub hops: HopSet,
}

/// What becomes of packets to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// They are steered in this group.
    Group(GroupId),
    /// They are left to the kernel, although a shorter prefix of this home group is steered.
    Hole(GroupId),
}

/// What the maps hold of groups and prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The home groups.
    pub homes: Vec<GroupId>,
    /// The derived groups.
    pub derived: Vec<DerivedGroup>,
    /// All prefixes.
    pub prefixes: BTreeMap<IpNet, Target>,
}

impl Pinned {
    /// The home group that a prefix belongs to.
    pub fn home_of(&self, target: Target) -> GroupId {
        match target {
            Target::Hole(home) => home,
            Target::Group(id) => self
                .derived
                .iter()
                .find(|group| group.id == id)
                .map_or(id, |group| group.parent),
        }
    }
}

/// What is to be done so that these groups follow the routes in the table.
pub fn follow(table: &RouteTable, following: &[Following], pinned: &Pinned) -> Steps {
    let mut left = left::Collector::default();
    let choose = |(prefix, routes)| {
        let choice = choose(prefix, routes, table, following, &mut left)?;
        Some((prefix, choice))
    };
    let choices = table.iter().filter_map(choose).collect();
    steps::plan(choices, following, pinned, left)
}

#[cfg(test)]
mod tests;
