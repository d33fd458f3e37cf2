//! Going through all prefixes, each before those inside it: which are steered, and where there are holes.

use ipnet::IpNet;
use steer_common::abi::GroupId;

use super::{Choice, Following, HopSet, LeftReason, Target, left::Collector, steps::Ids};

/// See the [module](self).
pub(super) struct Walk<'a> {
    following: &'a [Following],
    /// How many prefixes there may be.
    room: usize,
    /// The prefixes around the current one, from the outside, that matter for packets to it.
    around: Vec<(IpNet, Around)>,
    wanted: Vec<(IpNet, Target)>,
    /// The last choice and its group: neighbours mostly have the same.
    last: Option<((usize, HopSet), Option<GroupId>)>,
    /// Where in `wanted` the outermost of them is.
    tree_start: usize,
    /// The outermost prefix for which, with all that is inside it, there was no room.
    full: Option<IpNet>,
    left: &'a mut Collector,
}

/// What becomes of packets to a prefix, as far as it matters inside it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// They are steered by the following group of this index.
    Steered(usize),
    /// They are left to the kernel.
    Hole,
    /// They belong to a group that follows no routes.
    Fixed,
}

impl<'a> Walk<'a> {
    pub(super) fn new(following: &'a [Following], room: usize, left: &'a mut Collector) -> Self {
        Self {
            following,
            room,
            around: Vec::new(),
            wanted: Vec::new(),
            last: None,
            tree_start: 0,
            full: None,
            left,
        }
    }

    /// All prefixes that are to be in the map.
    pub(super) fn done(self) -> Vec<(IpNet, Target)> {
        self.wanted
    }

    /// A prefix of a group that follows no routes.
    pub(super) fn pass_fixed(&mut self, prefix: IpNet) {
        self.enter(prefix);
        self.around.push((prefix, Around::Fixed));
    }

    /// A prefix that has routes.
    pub(super) fn step(&mut self, prefix: IpNet, choice: Choice, ids: &Ids) {
        let around = self.enter(prefix);
        let barred = match around {
            _ if self.full.is_some_and(|full| full.contains(&prefix)) => Some(LeftReason::NoRoom),
            Some((other, Around::Fixed)) => Some(LeftReason::Within(other)),
            _ => None,
        };
        let is_barred = barred.is_some();
        let leaves = match choice {
            Choice::Leave(leaves) => leaves,
            Choice::Steer(index, hops) => match (self.group_of((index, hops), ids), barred) {
                (Some(id), None) => {
                    self.want(prefix, Target::Group(id), Around::Steered(index));
                    return;
                }
                (_, reason) => {
                    let reason = reason.unwrap_or(LeftReason::NoGroup);
                    self.left.add(self.following[index].group, reason, prefix);
                    u64::MAX
                }
            },
        };
        if is_barred {
            return;
        }
        if let Some((_, Around::Steered(index))) = around
            && leaves & (1 << index) != 0
        {
            let home = self.following[index].group;
            self.want(prefix, Target::Hole(home), Around::Hole);
        }
    }

    fn group_of(&mut self, choice: (usize, HopSet), ids: &Ids) -> Option<GroupId> {
        if let Some((last, group)) = &self.last
            && *last == choice
        {
            return *group;
        }
        let group = ids.get(&choice).copied().flatten();
        self.last = Some((choice, group));
        group
    }

    /// Leaves the prefixes that this one is not inside of; gives the one around it.
    fn enter(&mut self, prefix: IpNet) -> Option<(IpNet, Around)> {
        let is_over = |(around, _): &mut (IpNet, Around)| !around.contains(&prefix);
        while self.around.pop_if(is_over).is_some() {}
        self.around.last().copied()
    }

    /// Without room for all that is inside an outermost prefix none of it is steered: without a hole or a
    /// longer prefix packets would go where no route leads.
    fn want(&mut self, prefix: IpNet, target: Target, as_around: Around) {
        if self.around.is_empty() {
            self.tree_start = self.wanted.len();
        }
        self.around.push((prefix, as_around));
        if self.wanted.len() < self.room {
            self.wanted.push((prefix, target));
            return;
        }
        self.wanted.truncate(self.tree_start);
        let outermost = self.around.first().copied();
        self.around.clear();
        if let Some((outermost, Around::Steered(index))) = outermost {
            self.full = Some(outermost);
            let group = self.following[index].group;
            self.left.add(group, LeftReason::NoRoom, outermost);
        }
    }
}
