//! What the program remembers, forgotten or put back in time.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::{
    Pod,
    maps::{HashMap, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use steer_common::abi::{
    Counters, FlowEntry, Fragment, MOVES_MAX, Move, PassReason, TUNNELS_MAX, TunnelCounters, maps,
};

use super::{
    kernel::{Kernel, RawEntry, RawFragment, RawFragmentKey, RawKey},
    moves::slot,
};

impl Kernel {
    /// Deletes every flow's entry.
    pub fn delete_flows(&mut self) -> Result<()> {
        self.delete_all::<RawKey, RawEntry>(maps::FLOWS)
    }

    /// Forgets flows, fragments, moves and what was counted.
    pub fn forget(&mut self) -> Result<()> {
        for seq in 1..=self.counters()?.moves.min(MOVES_MAX as u64) {
            self.clear::<{ size_of::<Move>() / 8 }>(maps::MOVES, slot(seq)?)?;
        }
        self.delete_flows()?;
        self.delete_all::<RawFragmentKey, RawFragment>(maps::FRAGMENTS)?;
        self.clear::<{ PassReason::ALL.len() }>(maps::PASS_COUNTERS, 0)?;
        self.clear::<{ size_of::<Counters>() / 8 }>(maps::COUNTERS, 0)?;
        for id in 0..u32::try_from(TUNNELS_MAX)? {
            self.clear::<{ size_of::<TunnelCounters>() / 8 }>(maps::TUNNEL_COUNTERS, id)?;
        }
        Ok(())
    }

    /// Makes everything that is remembered older. Whether it could: a machine that has just started
    /// has no time to go back to.
    pub fn age(&mut self, by_ns: u64) -> Result<bool> {
        const LAST_SEEN: usize = std::mem::offset_of!(FlowEntry, last_seen_ns);
        const SEEN: usize = std::mem::offset_of!(Fragment, seen_ns);
        Ok(
            self.age_all::<RawKey, RawEntry>(maps::FLOWS, LAST_SEEN, by_ns)?
                && self.age_all::<RawFragmentKey, RawFragment>(maps::FRAGMENTS, SEEN, by_ns)?,
        )
    }

    fn elements<K: Pod + Ord, V: Pod>(&self, name: &str) -> Result<BTreeMap<K, V>> {
        let map = HashMap::<_, K, V>::try_from(self.map(name)?)?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }

    fn delete_all<K: Pod + Ord, V: Pod>(&mut self, name: &str) -> Result<()> {
        let elements = self.elements::<K, V>(name)?;
        let mut map = HashMap::<_, K, V>::try_from(self.map_mut(name)?)?;
        for key in elements.keys() {
            map.remove(key)?;
        }
        Ok(())
    }

    /// Turns back the time at an offset of every element.
    fn age_all<K: Pod + Ord, V: Pod + AsMut<[u8]>>(
        &mut self,
        name: &str,
        offset: usize,
        by_ns: u64,
    ) -> Result<bool> {
        let elements = self.elements::<K, V>(name)?;
        let mut map = HashMap::<_, K, V>::try_from(self.map_mut(name)?)?;
        for (key, mut value) in elements {
            let time = &mut value.as_mut()[offset..offset + 8];
            let seen_ns = u64::from_ne_bytes((&*time).try_into()?);
            let Some(before_ns) = seen_ns.checked_sub(by_ns) else {
                return Ok(false);
            };
            time.copy_from_slice(&before_ns.to_ne_bytes());
            map.insert(key, value, 0)?;
        }
        Ok(true)
    }

    fn clear<const WORDS: usize>(&mut self, name: &str, at: u32) -> Result<()> {
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let zeros = PerCpuValues::try_from(vec![[0; WORDS]; cpus])?;
        let mut map = PerCpuArray::<_, [u64; WORDS]>::try_from(self.map_mut(name)?)?;
        Ok(map.set(at, zeros, 0)?)
    }
}
