//! What is left to the kernel although a route leads through a tunnel, and why.

use ipnet::IpNet;
use steer_common::abi::{GROUPS_MAX, GroupId, PREFIXES_MAX};

/// Prefixes that are left to the kernel for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The home group that they would belong to.
    pub group: GroupId,
    /// Why.
    pub reason: LeftReason,
    /// The first of them.
    pub prefix: IpNet,
    /// How many there are.
    pub count: usize,
}

/// Why a prefix is left to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftReason {
    /// Its route leads through this device, too, which is no tunnel of the group.
    AlsoBy(u32),
    /// It is a default route.
    Default,
    /// It lies within this prefix, which another group steers whatever the routes are.
    Within(IpNet),
    /// No group is free for its choice of tunnels.
    NoGroup,
    /// There is no room for more prefixes.
    NoRoom,
}

impl Left {
    /// In words; `name` tells the names of devices.
    pub fn describe(&self, group: &str, name: impl Fn(u32) -> String) -> String {
        let prefix = self.prefix;
        let more = match self.count {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let why = match &self.reason {
            LeftReason::AlsoBy(ifindex) => format!(
                "the route leads also by {}, which is no tunnel of the group",
                name(*ifindex)
            ),
            LeftReason::Default => "the default route cannot be steered".into(),
            LeftReason::Within(other) => {
                format!("lies within {other}, which does not follow routes")
            }
            LeftReason::NoGroup => format!(
                "its choice of tunnels would need another group, and there are {GROUPS_MAX}"
            ),
            LeftReason::NoRoom => {
                format!("all groups together have at most {PREFIXES_MAX} prefixes")
            }
        };
        format!("group {group}: {prefix}{more}: {why}: left to the kernel")
    }
}

/// Gathers them.
#[derive(Debug, Default)]
pub(super) struct Collector(Vec<Left>);

impl Collector {
    pub(super) fn add(&mut self, group: GroupId, reason: LeftReason, prefix: IpNet) {
        let is_alike = |left: &&mut Left| left.group == group && left.reason == reason;
        if let Some(left) = self.0.iter_mut().find(is_alike) {
            left.count += 1;
            return;
        }
        self.0.push(Left {
            group,
            reason,
            prefix,
            count: 1,
        });
    }

    pub(super) fn done(self) -> Vec<Left> {
        self.0
    }
}
