//! Moving live flows.

pub(super) mod flow_moves;
pub(super) mod rebalance;
pub(super) mod stop;
