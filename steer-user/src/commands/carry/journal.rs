//! Writing down what was changed, for `steerctl events`.

use steer_common::abi::{Cause, Event, Hook, HookKey};

use crate::{
    commands::state,
    datapath::{DatapathError, maps::Maps},
    plan::{self, Existing},
};

/// Records how groups, tunnels and prefixes differ from what they were. The caller holds the write lock.
pub(in crate::commands) fn record(
    maps: &mut Maps,
    before: &Existing,
    cause: Cause,
) -> Result<(), DatapathError> {
    let after = state::existing(maps)?;
    push(maps, &plan::changes(before, &after, cause))
}

/// Records that there are no hooks any more.
pub(in crate::commands) fn record_no_hooks(
    maps: &mut Maps,
    before: &[(HookKey, Hook)],
    cause: Cause,
) -> Result<(), DatapathError> {
    push(maps, &plan::hook_changes(before, &[], cause))
}

/// Records how the hooks differ from what they were. The caller holds the write lock.
pub(in crate::commands) fn record_hooks(
    maps: &mut Maps,
    before: &[(HookKey, Hook)],
    cause: Cause,
) -> Result<(), DatapathError> {
    let after = maps.hooks()?;
    push(maps, &plan::hook_changes(before, &after, cause))
}

fn push(maps: &mut Maps, events: &[Event]) -> Result<(), DatapathError> {
    events.iter().try_for_each(|event| maps.push_event(event))
}
