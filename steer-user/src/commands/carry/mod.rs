//! From what is wanted to what is so: a request, a plan, and carrying it out as one step.

pub(super) mod apply;
pub(super) mod carry_out;
pub(super) mod difference;
pub(super) mod journal;
pub(super) mod machine;
pub(super) mod outlook;
pub(super) mod running;
pub(super) mod snapshot;
pub(super) mod wanted;
