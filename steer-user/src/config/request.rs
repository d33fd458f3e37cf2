//! What a configuration asks of planning.

use super::{Config, Switch};
use crate::plan::{FollowSpec, GroupRequest, Request, TunnelRequest};

impl Config {
    /// The groups that follow routes, and which.
    pub fn follows(&self) -> Vec<(String, FollowSpec)> {
        let groups = self.groups.iter();
        let follows = groups.filter_map(|group| match &group.follow_routes {
            Switch::On(spec) => Some((group.name.clone(), spec.clone())),
            Switch::Off => None,
        });
        follows.collect()
    }

    /// The part that planning is about.
    pub fn request(&self) -> Request {
        let tunnel = |tunnel: &super::Tunnel| TunnelRequest {
            name: tunnel.name.clone(),
            weight: Some(tunnel.weight),
            id: tunnel.id,
            tier: Some(tunnel.tier),
            mtu_bytes: tunnel.mtu,
        };
        let group = |group: &super::Group| GroupRequest {
            name: group.name.clone(),
            ifaces: group.iface.clone(),
            tunnels: group.tunnels.iter().map(tunnel).collect(),
            prefixes: group.prefixes.clone(),
            follows_routes: matches!(group.follow_routes, Switch::On(_)),
        };
        Request {
            groups: self.groups.iter().map(group).collect(),
            is_whole: true,
            seed: self.seed,
            max_flows: self.max_flows,
            idle: Some(self.idle),
            hook: self.hook,
            bypass_netfilter: self.bypass_netfilter,
            mss_clamp: self.mss_clamp,
            mark_mask: self.mark_mask,
            order: self.order,
            fix: self.fix,
        }
    }
}
