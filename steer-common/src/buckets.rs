//! Filling the bucket table: weighted Maglev (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Every tunnel walks its own permutation of the buckets, a function of its id
//! alone, and takes the next free one when it is its turn; turns come in
//! proportion to weights, and each tunnel has an exact quota. The result
//! depends on ids and weights only: not on the order of listing, not on what
//! was there before.

use crate::{
    abi::{BUCKETS, NO_TUNNEL, TUNNELS_PER_GROUP_MAX, TunnelId},
    hash::finish,
};

/// A tunnel's share of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The tunnel.
    pub id: TunnelId,
    /// Its weight; 0 takes no buckets.
    pub weight: u32,
}

/// A tunnel on its way through its permutation.
#[derive(Clone, Copy)]
struct Walker {
    id: TunnelId,
    weight: u64,
    quota: u32,
    taken: u32,
    /// Next bucket of the permutation.
    position: u32,
    /// Step of the permutation; any step visits every bucket, because their number is prime.
    skip: u32,
}

const NOBODY: Walker = Walker {
    id: NO_TUNNEL,
    weight: 0,
    quota: 0,
    taken: 0,
    position: 0,
    skip: 1,
};

/// Fills `buckets` for the members with a weight; all are [`NO_TUNNEL`] when there are none.
///
/// Members beyond [`TUNNELS_PER_GROUP_MAX`] are an error of the caller and panic.
pub fn fill(buckets: &mut [TunnelId; BUCKETS], members: &[Member]) {
    buckets.fill(NO_TUNNEL);
    assert!(
        members.len() <= TUNNELS_PER_GROUP_MAX,
        "too many tunnels in a group"
    );
    let mut storage = [NOBODY; TUNNELS_PER_GROUP_MAX];
    let mut count = 0;
    for member in members.iter().filter(|member| member.weight > 0) {
        storage[count] = Walker::new(*member);
        count += 1;
    }
    let walkers = &mut storage[..count];
    walkers.sort_unstable_by_key(|walker| walker.id);
    set_quotas(walkers);

    for _ in 0..BUCKETS {
        let Some(next) = next_in_turn(walkers) else {
            return;
        };
        let walker = &mut walkers[next];
        walker.taken += 1;
        let bucket = walker.next_free(buckets);
        buckets[bucket] = walker.id;
    }
}

impl Walker {
    fn new(member: Member) -> Self {
        let spread = finish(u64::from(member.id) + 1);
        Self {
            id: member.id,
            weight: u64::from(member.weight),
            quota: 0,
            taken: 0,
            position: (spread % BUCKETS as u64) as u32,
            skip: (finish(spread) % (BUCKETS as u64 - 1)) as u32 + 1,
        }
    }

    fn next_free(&mut self, buckets: &[TunnelId; BUCKETS]) -> usize {
        loop {
            let bucket = self.position as usize;
            self.position = (self.position + self.skip) % BUCKETS as u32;
            if buckets[bucket] == NO_TUNNEL {
                return bucket;
            }
        }
    }
}

/// Exact shares by largest remainder; of equal remainders, the lowest id gets the bucket.
fn set_quotas(walkers: &mut [Walker]) {
    let total: u64 = walkers.iter().map(|walker| walker.weight).sum();
    if total == 0 {
        return;
    }
    let buckets = BUCKETS as u64;
    let mut left = buckets;
    for walker in walkers.iter_mut() {
        walker.quota = (buckets * walker.weight / total) as u32;
        left -= u64::from(walker.quota);
    }
    let floor = |walker: &Walker| (buckets * walker.weight / total) as u32;
    for _ in 0..left {
        let remainder = |walker: &Walker| buckets * walker.weight % total;
        let best = walkers
            .iter_mut()
            .filter(|walker| walker.quota == floor(walker))
            .max_by_key(|walker| (remainder(walker), core::cmp::Reverse(walker.id)));
        if let Some(walker) = best {
            walker.quota += 1;
        }
    }
}

/// The tunnel that has taken the smallest part of its quota.
fn next_in_turn(walkers: &[Walker]) -> Option<usize> {
    let mut best: Option<(usize, &Walker)> = None;
    for (index, walker) in walkers
        .iter()
        .enumerate()
        .filter(|(_, w)| w.taken < w.quota)
    {
        let is_further_behind = best.is_none_or(|(_, other)| {
            // taken / quota, compared without division
            u64::from(walker.taken) * u64::from(other.quota)
                < u64::from(other.taken) * u64::from(walker.quota)
        });
        if is_further_behind {
            best = Some((index, walker));
        }
    }
    best.map(|(index, _)| index)
}
