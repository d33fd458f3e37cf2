//! The verbs, as an operator types them.

pub(super) mod change;
pub(super) mod check;
pub(super) mod detach;
pub(super) mod doctor;
pub(super) mod drain;
pub(super) mod events;
pub(super) mod explain;
pub(super) mod show;
pub(super) mod start;
pub(super) mod tunnels;
