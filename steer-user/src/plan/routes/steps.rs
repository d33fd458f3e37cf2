//! The steps from what the maps hold to what the routes say, in an order in which every packet
//! in between sees what was or what will be.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ipnet::IpNet;
use steer_common::abi::{GROUPS_MAX, GroupId, PREFIXES_MAX};

use super::{
    Choice, DerivedGroup, Following, HopSet, Left, LeftReason, Pinned, Target, left::Collector,
    walk::Walk,
};

/// What is to be done, in this order; [`Steps::set`] and [`Steps::remove`] one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Groups to make.
    pub make: Vec<DerivedGroup>,
    /// Prefixes to add or to change, the longest first: none is steered as the shorter one around it
    /// meanwhile.
    pub set: Vec<(IpNet, Target)>,
    /// Prefixes to remove, the shortest first.
    pub remove: Vec<IpNet>,
    /// Until some are removed there is no room to set others: remove first. Some packets are left to the
    /// kernel then for a moment, or steered as the prefix around.
    pub is_tight: bool,
    /// Derived groups that no prefix belongs to then. They may stay for a while: what comes back finds
    /// them again.
    pub unused: Vec<GroupId>,
    /// What is left to the kernel although a route leads through a tunnel.
    pub left: Vec<Left>,
    /// How many prefixes each following group had and has.
    pub counts: Vec<GroupCount>,
}

/// How many prefixes a following group has, without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupCount {
    /// The home group.
    pub group: GroupId,
    /// Before.
    pub before: usize,
    /// After.
    pub after: usize,
    /// How many came, went, or have other tunnels.
    pub changes: usize,
}

impl Steps {
    /// Whether any packet may take another way then.
    pub fn is_change(&self) -> bool {
        !self.set.is_empty() || !self.remove.is_empty()
    }

    /// Whether forgetting the unused groups would let more be steered.
    pub fn needs_groups(&self) -> bool {
        let is_short = |left: &Left| left.reason == LeftReason::NoGroup;
        !self.unused.is_empty() && self.left.iter().any(is_short)
    }
}

impl Pinned {
    /// What the maps hold after these steps.
    pub fn note(&mut self, steps: &Steps) {
        self.derived.extend(steps.make.iter().cloned());
        self.prefixes.extend(steps.set.iter().copied());
        for prefix in &steps.remove {
            self.prefixes.remove(prefix);
        }
    }

    /// Whether a number is that of no group.
    fn is_free(&self, id: GroupId) -> bool {
        !self.homes.contains(&id) && self.derived.iter().all(|group| group.id != id)
    }
}

/// What is to be done for these choices, which are in the order of their prefixes.
pub(super) fn plan(
    choices: Vec<(IpNet, Choice)>,
    following: &[Following],
    pinned: &Pinned,
    mut left: Collector,
) -> Steps {
    let groups = Groups::assign(&choices, following, pinned);
    let is_followed = |home: GroupId| following.iter().any(|of| of.group == home);
    let (own, fixed): (Vec<_>, Vec<_>) = pinned
        .prefixes
        .iter()
        .partition(|(_, target)| is_followed(pinned.home_of(**target)));

    let room = PREFIXES_MAX.saturating_sub(fixed.len());
    let mut walk = Walk::new(following, room, &mut left);
    // Those of other groups are on the way, too: what lies within them is theirs.
    let mut fixed = fixed.into_iter().map(|(prefix, _)| *prefix).peekable();
    for (prefix, choice) in choices {
        while let Some(next) = fixed.next_if(|next| *next <= prefix) {
            walk.pass_fixed(next);
        }
        walk.step(prefix, choice, &groups.ids);
    }
    let wanted = walk.done();

    let mut uses = [0; GROUPS_MAX];
    for (_, target) in &wanted {
        if let Target::Group(id) = target {
            uses[usize::from(*id)] += 1;
        }
    }
    let is_used = |id: GroupId| uses[usize::from(id)] > 0;
    let mut steps = Steps {
        make: groups.made,
        unused: pinned
            .derived
            .iter()
            .filter(|group| is_followed(group.parent) && !is_used(group.id))
            .map(|group| group.id)
            .collect(),
        left: left.done(),
        ..Steps::default()
    };
    steps.make.retain(|group| is_used(group.id));
    let mut counts = Counts::new(following, pinned, &steps.make);
    for (_, target) in &own {
        counts.note(**target, |count| &mut count.before);
    }
    for (_, target) in &wanted {
        counts.note(*target, |count| &mut count.after);
    }

    let mut count = pinned.prefixes.len();
    let mut own = own.into_iter().peekable();
    for (prefix, target) in wanted {
        while let Some((gone, was)) = own.next_if(|(known, _)| **known < prefix) {
            counts.note(*was, |count| &mut count.changes);
            steps.remove.push(*gone);
        }
        let known = own.next_if(|(known, _)| **known == prefix);
        count += usize::from(known.is_none());
        if known.is_none_or(|(_, known)| *known != target) {
            counts.note(target, |count| &mut count.changes);
            steps.set.push((prefix, target));
        }
    }
    for (gone, was) in own {
        counts.note(*was, |count| &mut count.changes);
        steps.remove.push(*gone);
    }
    steps.is_tight = count > PREFIXES_MAX;
    steps.counts = counts.counts;
    steps
        .set
        .sort_by_key(|(prefix, _)| Reverse(prefix.prefix_len()));
    steps.remove.sort_by_key(IpNet::prefix_len);
    steps
}

/// Counts prefixes by home group.
struct Counts {
    /// The home group of each group.
    homes: [GroupId; GROUPS_MAX],
    counts: Vec<GroupCount>,
}

impl Counts {
    fn new(following: &[Following], pinned: &Pinned, made: &[DerivedGroup]) -> Self {
        let mut homes = std::array::from_fn(|id| GroupId::try_from(id).unwrap_or(GroupId::MAX));
        for group in pinned.derived.iter().chain(made) {
            homes[usize::from(group.id)] = group.parent;
        }
        let counts = following.iter().map(|of| GroupCount {
            group: of.group,
            before: 0,
            after: 0,
            changes: 0,
        });
        Self {
            homes,
            counts: counts.collect(),
        }
    }

    fn note(&mut self, target: Target, which: impl Fn(&mut GroupCount) -> &mut usize) {
        if let Target::Group(id) = target {
            let home = self.homes[usize::from(id)];
            let count = self.counts.iter_mut().find(|count| count.group == home);
            if let Some(count) = count {
                *which(count) += 1;
            }
        }
    }
}

/// Which group each choice of tunnels has, by index of the following group; `None` where none is free.
pub(super) type Ids = BTreeMap<(usize, HopSet), Option<GroupId>>;

struct Groups {
    ids: Ids,
    /// Those that are new.
    made: Vec<DerivedGroup>,
}

impl Groups {
    fn assign(choices: &[(IpNet, Choice)], following: &[Following], pinned: &Pinned) -> Self {
        let mut counts: BTreeMap<(usize, &HopSet), usize> = BTreeMap::new();
        // Neighbours mostly have the same.
        for run in choices.chunk_by(|(_, one), (_, next)| one == next) {
            if let Some((_, Choice::Steer(index, hops))) = run.first() {
                *counts.entry((*index, hops)).or_default() += run.len();
            }
        }
        // Where there is no group for all, those of the most prefixes have one.
        let mut sets: Vec<_> = counts.into_iter().collect();
        sets.sort_by_key(|(_, count)| Reverse(*count));
        let (mut ids, mut made) = (Ids::new(), Vec::new());
        let mut free: Vec<GroupId> = (0..GROUPS_MAX)
            .filter_map(|id| GroupId::try_from(id).ok())
            .filter(|id| pinned.is_free(*id))
            .collect();
        for ((index, hops), _) in sets {
            let of = &following[index];
            let is_same = |group: &&DerivedGroup| group.parent == of.group && group.hops == *hops;
            let id = if is_home(hops, of) {
                Some(of.group)
            } else if let Some(known) = pinned.derived.iter().find(is_same) {
                Some(known.id)
            } else {
                // From the top, so that home groups have the small numbers.
                let id = free.pop();
                made.extend(id.map(|id| DerivedGroup {
                    id,
                    parent: of.group,
                    hops: hops.clone(),
                }));
                id
            };
            ids.insert((index, hops.clone()), id);
        }
        Self { ids, made }
    }
}

/// Whether these are all tunnels of the home group, which then chooses among them itself.
fn is_home(hops: &HopSet, of: &Following) -> bool {
    let is_tunnel = |id| of.tunnels.iter().any(|(tunnel, _)| *tunnel == id);
    hops.len() == of.tunnels.len()
        && hops
            .iter()
            .all(|(id, weight)| *weight == 1 && is_tunnel(*id))
}
