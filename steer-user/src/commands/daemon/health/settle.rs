//! What follows from a change of health: bucket tables and events, under the write lock.

use std::collections::BTreeSet;

use steer_common::abi::{Cause, Event, EventKind, GroupId, TunnelId};

use crate::{
    commands::{
        Failure,
        state::{self, encode_name},
    },
    datapath::{
        maps::Maps,
        pins::{LOCK_PATIENCE, PinDir},
    },
    plan::health::Transition,
};

/// A tunnel whose health is another one now.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) id: TunnelId,
    pub(super) name: String,
    /// `None` if it is told again after somebody else wrote it.
    pub(super) transition: Option<Transition>,
}

/// Makes the bucket tables that these changes call for, then tells of them.
pub(super) fn settle(pins: &PinDir, changes: &[Change]) -> Result<(), Failure> {
    let _lock = pins.lock_within(LOCK_PATIENCE)?;
    if !pins.holds_maps() {
        return Ok(());
    }
    let mut maps = Maps::open(pins)?;
    let known = state::tunnels(&maps)?;
    // Another steerctl may have given the number away while this one waited.
    let still_there: Vec<_> = changes
        .iter()
        .filter_map(|change| {
            let is_it =
                |tunnel: &&state::KnownTunnel| tunnel.id == change.id && tunnel.name == change.name;
            Some((change, known.iter().find(is_it)?))
        })
        .collect();
    let homes: BTreeSet<u32> = still_there
        .iter()
        .map(|(_, tunnel)| tunnel.info.group)
        .collect();
    for home in homes {
        state::rebuild(&mut maps, GroupId::try_from(home).unwrap_or(GroupId::MAX))?;
    }
    for (change, tunnel) in still_there {
        let Some(transition) = change.transition.filter(Transition::changes_health) else {
            continue;
        };
        maps.push_event(&Event {
            tunnel: change.id.into(),
            group: tunnel.info.group,
            before: transition.before.health as u32,
            after: transition.after.health as u32,
            reason: transition.after.reason,
            name: encode_name(&change.name),
            ..Event::new(EventKind::HealthChanged, Cause::Daemon)
        })?;
    }
    Ok(())
}
