//! The maps that userspace writes for itself; the programs do not read them.

use anyhow::Result;
use aya::maps::{Array, HashMap};
use steer_common::abi::{Event, Hook, HookKey, Membership, MembershipKey, TunnelHealth, maps};

use super::kernel::{Kernel, raw};

impl Kernel {
    /// Writes a hook's entry.
    pub fn set_hook(&mut self, key: &HookKey, hook: &Hook) -> Result<()> {
        const BYTES: usize = size_of::<Hook>();
        let mut map = HashMap::<_, [u8; 8], [u8; BYTES]>::try_from(self.map_mut(maps::HOOKS)?)?;
        Ok(map.insert(raw::<_, 8>(key), raw::<_, BYTES>(hook), 0)?)
    }

    /// Puts a tunnel into a derived group.
    pub fn set_membership(&mut self, key: &MembershipKey, value: Membership) -> Result<()> {
        let map = self.map_mut(maps::MEMBERSHIPS)?;
        let mut map = HashMap::<_, [u8; 8], [u8; 4]>::try_from(map)?;
        Ok(map.insert(raw::<_, 8>(key), raw::<_, 4>(&value), 0)?)
    }

    /// Writes what was measured of a tunnel.
    pub fn set_tunnel_health(&mut self, id: u32, health: &TunnelHealth) -> Result<()> {
        const BYTES: usize = size_of::<TunnelHealth>();
        let mut map = Array::<_, [u8; BYTES]>::try_from(self.map_mut(maps::TUNNEL_HEALTH)?)?;
        Ok(map.set(id, raw::<_, BYTES>(health), 0)?)
    }

    /// Writes the event of a slot.
    pub fn set_event(&mut self, slot: u32, event: &Event) -> Result<()> {
        const BYTES: usize = size_of::<Event>();
        let mut map = Array::<_, [u8; BYTES]>::try_from(self.map_mut(maps::EVENTS)?)?;
        Ok(map.set(slot, raw::<_, BYTES>(event), 0)?)
    }
}
