//! Following routes: bringing groups and prefixes to what the kernel's routes say.
//!
//! The route table is held in memory and kept up to date by the kernel's messages, so that a change
//! costs no listing; so is what the maps hold, for as long as nobody else changes the epoch.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use steer_common::abi::{Cause, Event, EventKind, Group, GroupId, PrefixSource};

use crate::{
    commands::state::{self, KnownTunnel, decode_name},
    datapath::{DatapathError, maps::Maps},
    net::{self, NetError, Netlink, Noted, RouteNames, RouteNotice, RouteTable},
    output,
    plan::{
        self, Existing, FollowRoutes, FollowSpec, Following, GroupCount, GroupPlan, Left,
        LeftReason, Pinned, Plan, PlanError, Target,
    },
};

mod maps;
mod report;
mod watch;

pub(super) use maps::{forget, read_pinned};
pub(super) use report::report;
pub(super) use watch::RouteWatch;

/// How long a derived group stays after its last prefix went: routes that flap find it again.
const LINGER: Duration = Duration::from_secs(30);

/// The groups that follow routes, by name, and which routes.
pub(super) type Follows = Vec<(String, FollowRoutes)>;

/// Follows routes.
#[derive(Debug, Default)]
pub(super) struct Follower {
    follows: Follows,
    table: RouteTable,
    /// What the maps hold, and in which epoch.
    known: Option<(u32, Pinned)>,
    /// Derived groups out of use, and since when.
    unused: BTreeMap<GroupId, Instant>,
    /// What was told to be left to the kernel.
    told: Vec<(GroupId, LeftReason)>,
    /// What changed since the last event, by home group.
    tally: BTreeMap<GroupId, Tally>,
}

/// What changed of a group's prefixes.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// How many there were at the last event.
    before: u32,
    /// How many there are.
    after: u32,
    /// How many changed since, each as often as it did.
    changes: u32,
}

impl Follower {
    /// For these groups, which must be in the maps by the time of [`Follower::apply`].
    pub(super) fn new(specs: &[(String, FollowSpec)]) -> Result<Self, PlanError> {
        if specs.is_empty() {
            return Ok(Self::default());
        }
        let names = RouteNames::read();
        let resolve = |(group, spec): &(String, FollowSpec)| {
            let routes = spec.resolve(&names)?;
            Ok((group.clone(), routes))
        };
        let follows = specs
            .iter()
            .map(resolve)
            .collect::<Result<Follows, PlanError>>()?;
        let mut tables: Vec<u32> = follows
            .iter()
            .flat_map(|(_, routes)| routes.tables.iter().copied())
            .collect();
        tables.sort_unstable();
        tables.dedup();
        Ok(Self {
            follows,
            table: RouteTable::new(tables),
            ..Self::default()
        })
    }

    /// Whether there is nothing to follow.
    pub(super) fn is_idle(&self) -> bool {
        self.follows.is_empty()
    }

    /// Takes all routes that are followed from the kernel.
    pub(super) async fn read(&mut self, netlink: &Netlink) -> Result<(), NetError> {
        if self.is_idle() {
            return Ok(());
        }
        let listed = self.list(netlink).await?;
        self.renew(listed, true);
        Ok(())
    }

    /// The same, not taken yet.
    async fn list(&self, netlink: &Netlink) -> Result<RouteTable, NetError> {
        netlink.route_table(self.table.tables()).await
    }

    /// Takes what was listed, whole or in part.
    fn renew(&mut self, listed: RouteTable, is_whole: bool) {
        if is_whole {
            self.table.renew(listed);
        } else {
            self.table.renew_in_part(listed);
        }
    }

    /// What a plan's groups would steer now, for the operator.
    pub(super) fn preview(&self, plan: &Plan, existing: &Existing) -> Vec<String> {
        let follows = |name: &str| self.follows.iter().find(|(group, _)| group == name);
        let following = |group: &GroupPlan| {
            let (name, routes) = follows(&group.name)?;
            Some(Following {
                group: group.id,
                name: name.clone(),
                routes: routes.clone(),
                tunnels: group.tunnels.iter().map(|t| (t.id, t.ifindex)).collect(),
            })
        };
        let following: Vec<_> = plan.groups.iter().filter_map(following).collect();
        let is_planned = |id: GroupId| plan.groups.iter().any(|group| group.id == id);
        let others = existing.groups.iter();
        let others =
            others.filter(|other| !is_planned(other.id) && !plan.leaving.contains(&other.id));
        let of_others = others.map(|other| (other.id, &other.prefixes));
        let planned = plan.groups.iter().map(|group| (group.id, &group.prefixes));
        let placed = of_others.chain(planned).flat_map(|(id, prefixes)| {
            let target = Target::Group(id);
            prefixes.iter().map(move |prefix| (*prefix, target))
        });
        let homes = existing.groups.iter().map(|group| group.id);
        let pinned = Pinned {
            homes: homes
                .chain(plan.groups.iter().map(|group| group.id))
                .collect(),
            prefixes: placed.collect(),
            ..Pinned::default()
        };
        let steps = plan::follow(&self.table, &following, &pinned);
        let home_of = |id: GroupId| {
            let made = steps.make.iter().find(|made| made.id == id);
            made.map_or(id, |made| made.parent)
        };
        let notes = following.iter().map(|group| {
            let is_of = |(_, target): &&(IpNet, Target)| matches!(target, Target::Group(id) if home_of(*id) == group.group);
            let mut prefixes: Vec<IpNet> = steps.set.iter().filter(is_of).map(|(p, _)| *p).collect();
            prefixes.sort();
            let names: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
            let name = &group.name;
            match names.as_slice() {
                [] => format!("group {name}: no route leads through its tunnels now"),
                all => {
                    let all = output::shortened(all);
                    format!("group {name}: routes through its tunnels now: {all}")
                }
            }
        });
        notes.collect()
    }

    /// Takes note of what the kernel told.
    pub(super) fn note(&mut self, notice: RouteNotice) -> Noted {
        if notice == RouteNotice::Lost {
            log::warn!("some of the kernel's route messages were lost; listing all routes");
        }
        self.table.note(notice)
    }

    /// Brings the maps to what the routes say. The caller holds the write lock.
    pub(super) fn apply(&mut self, maps: &mut Maps) -> Result<(), DatapathError> {
        if self.is_idle() {
            return Ok(());
        }
        let tunnels = state::tunnels(maps)?;
        let groups = state::groups(maps)?;
        let following = following(&self.follows, &groups, &tunnels);
        let epoch = maps.settings()?.epoch;
        // Forgotten if anything below fails: then nobody knows what the maps hold.
        let known = self.known.take().filter(|(known, _)| *known == epoch);
        let is_news = known.is_none();
        let mut pinned = match known {
            Some((_, pinned)) => pinned,
            None => read_pinned(maps, &groups)?,
        };
        let mut take_steps = |maps: &mut Maps, pinned: &mut Pinned, is_news| {
            let steps = plan::follow(&self.table, &following, pinned);
            maps::carry_out(maps, &steps, &groups, &tunnels)?;
            pinned.note(&steps);
            // Whoever wrote them last may have been killed before it came to this.
            if steps.is_change() || is_news {
                state::next_epoch(maps)?;
            }
            count(&mut self.tally, &steps.counts);
            Ok::<_, DatapathError>(steps)
        };
        let mut steps = take_steps(maps, &mut pinned, is_news)?;
        if steps.needs_groups() {
            // Now that no prefix belongs to them, and no packet is under way that has read otherwise.
            maps.settle();
            for id in &steps.unused {
                forget(maps, *id)?;
            }
            pinned
                .derived
                .retain(|group| !steps.unused.contains(&group.id));
            steps = take_steps(maps, &mut pinned, false)?;
        }
        self.known = Some((maps.settings()?.epoch, pinned));
        self.note_unused(&steps.unused);
        self.tell(&steps.left, &following);
        Ok(())
    }

    fn note_unused(&mut self, unused: &[GroupId]) {
        let now = Instant::now();
        self.unused.retain(|id, _| unused.contains(id));
        for id in unused {
            self.unused.entry(*id).or_insert(now);
        }
    }

    /// Whether there are groups that have been out of use for long enough.
    pub(super) fn has_leftovers(&self) -> bool {
        self.unused.values().any(|since| since.elapsed() >= LINGER)
    }

    /// Forgets them. The caller holds the write lock.
    pub(super) fn forget_leftovers(&mut self, maps: &mut Maps) -> Result<(), DatapathError> {
        let is_over = |since: &Instant| since.elapsed() >= LINGER;
        let over: Vec<GroupId> = self
            .unused
            .iter()
            .filter(|(_, since)| is_over(since))
            .map(|(id, _)| *id)
            .collect();
        let Some((epoch, mut pinned)) = self.known.take() else {
            return Ok(());
        };
        // Somebody else may have given them prefixes.
        if epoch != maps.settings()?.epoch {
            return Ok(());
        }
        for id in over {
            forget(maps, id)?;
            pinned.derived.retain(|group| group.id != id);
            self.unused.remove(&id);
        }
        self.known = Some((epoch, pinned));
        Ok(())
    }

    /// Whether there is something to tell by an event.
    pub(super) fn has_news(&self) -> bool {
        self.tally.values().any(|tally| tally.changes > 0)
    }

    /// Writes one event for each group whose prefixes changed since the last time. The caller holds the
    /// write lock.
    pub(super) fn push_events(&mut self, maps: &mut Maps) -> Result<(), DatapathError> {
        for (group, tally) in &mut self.tally {
            if tally.changes == 0 {
                continue;
            }
            maps.push_event(&Event {
                group: (*group).into(),
                before: tally.before,
                after: tally.after,
                count: tally.changes,
                ..Event::new(EventKind::RoutesChanged, Cause::Routes)
            })?;
            tally.before = tally.after;
            tally.changes = 0;
        }
        Ok(())
    }

    /// Warns of what is left to the kernel, once of each reason.
    fn tell(&mut self, left: &[Left], following: &[Following]) {
        for of in left {
            if !self.told.contains(&(of.group, of.reason.clone())) {
                let group = following.iter().find(|group| group.group == of.group);
                let group = group.map_or("?", |group| group.name.as_str());
                log::warn!("{}", of.describe(group, net::device_name));
            }
        }
        self.told = left
            .iter()
            .map(|of| (of.group, of.reason.clone()))
            .collect();
    }
}

/// Adds to what changed of each home group's prefixes.
fn count(tally: &mut BTreeMap<GroupId, Tally>, counts: &[GroupCount]) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    for count in counts {
        let tally = tally.entry(count.group).or_insert(Tally {
            before: number(count.before),
            ..Tally::default()
        });
        tally.after = number(count.after);
        tally.changes = tally.changes.saturating_add(number(count.changes));
    }
}

/// The groups that follow, as they are in the maps.
fn following(
    follows: &Follows,
    groups: &[(GroupId, Group)],
    tunnels: &[KnownTunnel],
) -> Vec<Following> {
    let home = |name: &str| {
        let is_it = |(id, group): &&(GroupId, Group)| {
            let is_home = group.parent == u32::from(*id) && decode_name(&group.name) == name;
            // Somebody may have given it prefixes since.
            is_home && group.prefixes_from == PrefixSource::Routes
        };
        groups.iter().find(is_it).map(|(id, _)| *id)
    };
    follows
        .iter()
        .filter_map(|(name, routes)| {
            let group = home(name)?;
            let of_group = tunnels.iter().filter(|t| t.info.group == u32::from(group));
            Some(Following {
                group,
                name: name.clone(),
                routes: routes.clone(),
                tunnels: of_group.map(|t| (t.id, t.state.ifindex)).collect(),
            })
        })
        .collect()
}
