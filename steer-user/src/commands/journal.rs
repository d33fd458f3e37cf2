//! Writing down what was changed, for `steerctl events`.

use steer_common::abi::{Cause, Hook, HookKey};

use super::state;
use crate::{
    datapath::{DatapathError, maps::Maps},
    plan::{self, Existing},
};

/// Records how groups, tunnels and prefixes differ from what they were. The caller holds the write lock.
pub(super) fn record(
    maps: &mut Maps,
    before: &Existing,
    cause: Cause,
) -> Result<(), DatapathError> {
    let after = state::existing(maps)?;
    for event in plan::changes(before, &after, cause) {
        maps.push_event(&event)?;
    }
    Ok(())
}

/// Records how the hooks differ from what they were. The caller holds the write lock.
pub(super) fn record_hooks(
    maps: &mut Maps,
    before: &[(HookKey, Hook)],
    cause: Cause,
) -> Result<(), DatapathError> {
    let after = maps.hooks()?;
    for event in plan::hook_changes(before, &after, cause) {
        maps.push_event(&event)?;
    }
    Ok(())
}
