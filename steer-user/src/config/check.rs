//! What a configuration says that no gateway could do, whatever it has.

use std::collections::BTreeMap;
use std::fmt::Display;

use ipnet::IpNet;
use steer_common::abi::{
    GROUPS_MAX, HookMode, PREFIXES_MAX, TUNNEL_ID_MAX, TUNNELS_PER_GROUP_MAX, TunnelId,
};

use super::place::{self, Places, Step};
use super::{Config, Problem, Switch};
use crate::plan::{self, HookChoice, PlanError};

/// All of it. Of a configuration that is not whole, because parts of it were not understood, nothing is said to be
/// missing.
pub(super) fn check(config: &Config, places: &Places<'_>, is_whole: bool) -> Vec<Problem> {
    let mut found = Found {
        places,
        is_whole,
        problems: Vec::new(),
    };
    found.groups(config);
    found.lan_devices(config);
    found.tunnels(config);
    found.prefixes(config);
    found.problems
}

struct Found<'a> {
    places: &'a Places<'a>,
    is_whole: bool,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn add(&mut self, path: &[Step], message: &dyn Display, hint: Option<&str>) {
        let problem = self.places.problem(path, message.to_string(), hint);
        self.problems.push(problem);
    }

    fn groups(&mut self, config: &Config) {
        let groups = &config.groups;
        if groups.is_empty() && self.is_whole {
            self.add(&[], &"there is no group", Some("write [[group]]"));
        }
        if groups.len() > GROUPS_MAX {
            let path = place::group(GROUPS_MAX);
            self.add(&path, &PlanError::TooManyGroups, None);
        }
        for (index, group) in groups.iter().enumerate() {
            let path = place::group(index);
            let has_name = |other: &super::Group| other.name == group.name;
            if self.is_whole && groups[..index].iter().any(has_name) {
                let with_name = [&path[..], &[Step::Key("name")]].concat();
                self.add(
                    &with_name,
                    &format!("group {}: given twice", group.name),
                    None,
                );
            }
            self.empty_lists(&path, group);
            if group.tunnels.is_empty() && groups.len() > 1 && self.is_whole {
                let message = format!("group {}: names no tunnel", group.name);
                let hint = "tunnels are found only for a single group; write [[group.tunnel]]";
                self.add(&path, &message, Some(hint));
            }
            if group.tunnels.len() > TUNNELS_PER_GROUP_MAX {
                let count = group.tunnels.len();
                self.add(&path, &PlanError::TooManyTunnels { count }, None);
            }
            let has_weight = group.tunnels.iter().any(|tunnel| tunnel.weight > 0);
            if !has_weight && !group.tunnels.is_empty() && self.is_whole {
                let error = PlanError::AllWeightsZero {
                    group: group.name.clone(),
                };
                self.add(&path, &error, Some("give one tunnel a weight above 0"));
            }
            if group.follow_routes != Switch::Off && !group.prefixes.is_empty() {
                let path = [&path[..], &[Step::Key("prefixes")]].concat();
                let message = "the prefixes are those of the routes that are followed";
                self.add(&path, &message, Some("leave out prefixes or follow-routes"));
            }
        }
    }

    /// Lists that are written, but name nothing.
    fn empty_lists(&mut self, path: &[Step], group: &super::Group) {
        let is_empty = [
            (
                "prefixes",
                group.prefixes.is_empty() && group.follow_routes == Switch::Off,
                "name the remote networks, or leave it out to take what the tunnels' allowed IPs have in common",
            ),
            (
                "tunnel",
                group.tunnels.is_empty(),
                "write [[group.tunnel]], or leave it out to take all WireGuard devices",
            ),
        ];
        for (key, is_empty, hint) in is_empty {
            let path = [path, &[Step::Key(key)]].concat();
            if self.is_whole && is_empty && self.places.has(&path) {
                self.add(&path, &"is empty", Some(hint));
            }
        }
    }

    fn lan_devices(&mut self, config: &Config) {
        let mut has_any = false;
        for (index, group) in config.groups.iter().enumerate() {
            let mut path = place::group(index);
            path.push(Step::Key("iface"));
            for (at, name) in group.iface.iter().enumerate() {
                has_any = true;
                let path = [&path[..], &[Step::Index(at)]].concat();
                let name = name.clone();
                if group.iface[..at].contains(&name) {
                    self.add(&path, &PlanError::DuplicateIface { name }, None);
                } else if config.tunnel(&name).is_some() {
                    let group = None;
                    self.add(&path, &PlanError::IfaceIsTunnel { name, group }, None);
                }
            }
        }
        let needs_one = matches!(
            config.hook,
            Some(HookChoice::Mode(HookMode::Ingress | HookMode::Mark))
        );
        if needs_one && !has_any && !config.groups.is_empty() && self.is_whole {
            let hint = "write iface = [\"lan0\"] in a group, or hook = \"egress\"";
            self.add(&[Step::Key("hook")], &PlanError::NoIface, Some(hint));
        }
    }

    fn tunnels(&mut self, config: &Config) {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        let mut ids: BTreeMap<TunnelId, &str> = BTreeMap::new();
        for (of_group, group) in config.groups.iter().enumerate() {
            for (index, tunnel) in group.tunnels.iter().enumerate() {
                let path = place::tunnel(of_group, index);
                let name = tunnel.name.clone();
                match names.insert(&tunnel.name, &group.name) {
                    Some(other) if other == group.name => {
                        let path = [&path[..], &[Step::Key("name")]].concat();
                        self.add(&path, &PlanError::DuplicateTunnel { name }, None);
                    }
                    Some(other) => {
                        let path = [&path[..], &[Step::Key("name")]].concat();
                        let group = other.to_owned();
                        self.add(&path, &PlanError::TunnelOfOtherGroup { name, group }, None);
                    }
                    None => {}
                }
                let Some(id) = tunnel.id else { continue };
                if let Some(holder) = ids.insert(id, &tunnel.name) {
                    let path = [&path[..], &[Step::Key("id")]].concat();
                    let error = PlanError::IdTaken {
                        name: tunnel.name.clone(),
                        id,
                        holder: holder.to_owned(),
                    };
                    self.add(&path, &error, Some("give another id, or none"));
                }
            }
        }
        if names.len() > usize::from(TUNNEL_ID_MAX) + 1 {
            self.add(&[Step::Key("group")], &PlanError::NoFreeId, None);
        }
    }

    fn prefixes(&mut self, config: &Config) {
        // Sorted, a prefix comes behind those that contain it.
        let mut all: Vec<(IpNet, usize, usize)> = Vec::new();
        for (of_group, group) in config.groups.iter().enumerate() {
            for (index, prefix) in group.prefixes.iter().enumerate() {
                match plan::check_prefix(*prefix) {
                    Ok(()) => all.push((*prefix, of_group, index)),
                    Err(error) => self.add_prefix(of_group, index, &error),
                }
            }
        }
        if all.len() > PREFIXES_MAX {
            let count = all.len();
            self.add(
                &[Step::Key("group")],
                &PlanError::TooManyPrefixes { count },
                None,
            );
        }
        all.sort();
        let mut around: Option<(IpNet, usize)> = None;
        for (prefix, of_group, index) in all {
            match around {
                Some((other, of_other)) if other.contains(&prefix) => {
                    let name = &config.groups[of_other].name;
                    let error = if prefix == other && of_group == of_other {
                        PlanError::DuplicatePrefix { prefix }
                    } else {
                        PlanError::OverlappingPrefix {
                            prefix,
                            other,
                            group: (of_group != of_other).then(|| name.clone()),
                        }
                    };
                    self.add_prefix(of_group, index, &error);
                }
                _ => around = Some((prefix, of_group)),
            }
        }
    }

    fn add_prefix(&mut self, of_group: usize, index: usize, error: &PlanError) {
        let mut path = place::group(of_group);
        path.extend([Step::Key("prefixes"), Step::Index(index)]);
        self.add(&path, &error, None);
    }
}
