//! Which live flows to move so that tunnels carry their shares: as few as possible, the longest idle first.
//!
//! Shares are those of new flows. A flow that the far end placed, or whose source is a tunnel's own
//! address, is never moved; where such flows are more than a tunnel's share, the others share the rest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use steer_common::abi::{FlowEntry, FlowKey, GroupId, Origin, Placer, TunnelId};

/// A tunnel of a group, as it is to share the group's flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// The tunnel.
    pub id: TunnelId,
    /// Its weight in this group; 0 when it takes no new flows.
    pub weight: u64,
    /// Whether its flows stay, however many they are: it drains.
    pub keeps: bool,
}

/// Live flows on a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCount {
    /// All of them.
    pub total: u64,
    /// Those that this gateway may move.
    pub movable: u64,
}

impl FlowCount {
    fn fixed(self) -> u64 {
        self.total - self.movable
    }
}

/// Live flows by group and tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    by_group: BTreeMap<(u16, u16), FlowCount>,
    by_home: BTreeMap<(u32, u16), u64>,
}

impl Census {
    /// Counts a live flow; `may_move` is whether those of its tunnel are to be moved at all.
    pub fn add(&mut self, entry: &FlowEntry, may_move: bool) {
        let place = (entry.group, entry.tunnel);
        let count = self.by_group.entry(place).or_default();
        count.total += 1;
        count.movable += u64::from(may_move && is_movable(entry));
        *self.by_home.entry((entry.home, entry.tunnel)).or_default() += 1;
    }

    /// Those of a group on a tunnel.
    pub fn of(&self, group: GroupId, tunnel: TunnelId) -> FlowCount {
        let place = (group.into(), tunnel.into());
        self.by_group.get(&place).copied().unwrap_or_default()
    }

    /// Those of a home group and all groups derived from it, on a tunnel.
    pub fn of_home(&self, home: GroupId, tunnel: TunnelId) -> u64 {
        let place = (home.into(), tunnel.into());
        self.by_home.get(&place).copied().unwrap_or_default()
    }
}

/// Whether this gateway may put a flow on another tunnel.
pub fn is_movable(entry: &FlowEntry) -> bool {
    entry.placer == Placer::Near && entry.origin != Origin::Pinned
}

/// How many flows of a group a tunnel has, and is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The group.
    pub group: GroupId,
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Flows that it has.
    pub flows: u64,
    /// Flows that it is to have.
    pub wanted: u64,
}

impl Target {
    /// Flows that are to leave it.
    pub fn surplus(&self) -> u64 {
        self.flows.saturating_sub(self.wanted)
    }

    /// Flows that it is to get.
    pub fn deficit(&self) -> u64 {
        self.wanted.saturating_sub(self.flows)
    }
}

/// What each tunnel of a group is to have of its flows. All stay where they are when no tunnel takes new
/// ones.
pub fn targets(group: GroupId, sharers: &[Sharer], census: &Census) -> Vec<Target> {
    let mut targets: Vec<Target> = sharers
        .iter()
        .map(|sharer| {
            let flows = census.of(group, sharer.id).total;
            Target {
                group,
                tunnel: sharer.id,
                flows,
                wanted: flows,
            }
        })
        .collect();
    let shares = |index: &usize| !sharers[*index].keeps;
    let mut open: Vec<usize> = (0..sharers.len()).filter(shares).collect();
    if open.iter().all(|index| sharers[*index].weight == 0) {
        return targets;
    }
    let mut flows: u64 = open.iter().map(|index| targets[*index].flows).sum();
    // A tunnel keeps at least what cannot be moved away; the others then share what is left.
    while !open.is_empty() {
        let quotas = quotas(flows, sharers, &targets, &open);
        let fixed = |index: usize| census.of(group, sharers[index].id).fixed();
        let is_full = |(index, quota): &(usize, u64)| fixed(*index) > *quota;
        let (full, rest): (Vec<_>, Vec<_>) = open.iter().copied().zip(quotas).partition(is_full);
        if full.is_empty() {
            for (index, quota) in rest {
                targets[index].wanted = quota;
            }
            break;
        }
        for (index, _) in full {
            targets[index].wanted = fixed(index);
            flows -= fixed(index);
        }
        open = rest.into_iter().map(|(index, _)| index).collect();
    }
    targets
}

/// Shares of `flows` by largest remainder. Of equal remainders, the tunnel that has the flow already gets
/// it, then the lowest id.
fn quotas(flows: u64, sharers: &[Sharer], targets: &[Target], open: &[usize]) -> Vec<u64> {
    let total: u128 = open
        .iter()
        .map(|index| u128::from(sharers[*index].weight))
        .sum();
    if total == 0 {
        return vec![0; open.len()];
    }
    let product = |index: usize| u128::from(flows) * u128::from(sharers[index].weight);
    let mut quotas: Vec<u64> = open
        .iter()
        .map(|index| u64::try_from(product(*index) / total).unwrap_or(flows))
        .collect();
    let mut left = flows - quotas.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..open.len()).collect();
    order.sort_by_key(|place| {
        let index = open[*place];
        let has_more = targets[index].flows > quotas[*place];
        let id = sharers[index].id;
        (Reverse(product(index) % total), Reverse(has_more), id)
    });
    for place in order {
        if left == 0 {
            break;
        }
        quotas[place] += 1;
        left -= 1;
    }
    quotas
}

/// A flow that is to change its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowMove {
    /// The flow.
    pub key: FlowKey,
    /// Its tunnel.
    pub from: TunnelId,
    /// The tunnel that it is to have.
    pub to: TunnelId,
}

/// Chooses the flows, from a walk over the flow table that holds no more than it chooses.
#[derive(Debug)]
pub struct Chooser {
    targets: Vec<Target>,
    /// Of each target with a surplus, as many of its flows, the longest idle ones.
    leaving: BTreeMap<(u16, u16), Leaving>,
}

#[derive(Debug)]
struct Leaving {
    limit: usize,
    /// The one that was seen last is on top.
    flows: BinaryHeap<Leaver>,
}

/// A flow by how long it has been idle; of flows seen at the same time the order is that of their keys.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Leaver {
    last_seen_ns: u64,
    key: [u8; size_of::<FlowKey>()],
}

impl Chooser {
    /// A chooser for these targets.
    pub fn new(targets: Vec<Target>) -> Self {
        let leaving = targets
            .iter()
            .filter(|target| target.surplus() > 0)
            .map(|target| {
                let leaving = Leaving {
                    limit: usize::try_from(target.surplus()).unwrap_or(usize::MAX),
                    flows: BinaryHeap::new(),
                };
                ((target.group.into(), target.tunnel.into()), leaving)
            })
            .collect();
        Self { targets, leaving }
    }

    /// Looks at a live flow.
    pub fn visit(&mut self, key: &FlowKey, entry: &FlowEntry) {
        let place = (entry.group, entry.tunnel);
        let Some(Leaving { limit, flows }) = self.leaving.get_mut(&place) else {
            return;
        };
        if !is_movable(entry) {
            return;
        }
        let leaver = Leaver {
            last_seen_ns: entry.last_seen_ns,
            key: bytemuck::cast(*key),
        };
        if flows.len() < *limit {
            flows.push(leaver);
        } else if let Some(mut latest) = flows.peek_mut()
            && leaver < *latest
        {
            *latest = leaver;
        }
    }

    /// The moves, the longest idle flow first. Each goes to the tunnel that lacks most by then, so that
    /// stopping half-way leaves the shares nearer than before.
    pub fn moves(self) -> Vec<FlowMove> {
        let mut leaving: Vec<(Leaver, u16, TunnelId)> = self
            .leaving
            .into_iter()
            .flat_map(|((group, tunnel), leaving)| {
                let from = TunnelId::try_from(tunnel).unwrap_or(TunnelId::MAX);
                let flows = leaving.flows.into_iter();
                flows.map(move |leaver| (leaver, group, from))
            })
            .collect();
        leaving.sort_unstable();
        let mut lacking: BTreeMap<u16, BinaryHeap<(u64, Reverse<TunnelId>)>> = BTreeMap::new();
        for target in self.targets.iter().filter(|target| target.deficit() > 0) {
            let of_group = lacking.entry(target.group.into()).or_default();
            of_group.push((target.deficit(), Reverse(target.tunnel)));
        }
        leaving
            .into_iter()
            .filter_map(|(leaver, group, from)| {
                let lacking = lacking.get_mut(&group)?;
                let (deficit, Reverse(to)) = lacking.pop()?;
                if deficit > 1 {
                    lacking.push((deficit - 1, Reverse(to)));
                }
                Some(FlowMove {
                    key: bytemuck::checked::try_cast(leaver.key).ok()?,
                    from,
                    to,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
