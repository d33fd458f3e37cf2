//! Planning and validation: what an operator asks for, checked against what
//! there is, before anything is touched. Pure: no clock, no kernel, no file.

mod change;
mod difference;
mod discover;
mod error;
mod flow;
mod gateway;
mod group;
mod ids;
mod lan;
mod limits;
mod marks;
mod mode;
mod prefixes;
mod replies;
mod surroundings;
mod types;
mod values;

pub use change::{Change, TunnelChange, change_admin, change_weights, shares};
pub use difference::{Difference, Entry, EntryKind};
pub use error::PlanError;
pub use flow::{FlowEndpoint, FlowNumbers, protocol, protocol_name};
pub use gateway::plan;
pub use limits::{FLOW_BYTES, Idle, default_max_flows};
pub use marks::{MarkMask, Marks, own_routing};
pub use mode::{mss_clamp_name, unequal_mtus};
pub use prefixes::{check_prefix, conflicts, left_to_kernel};
pub use replies::{Forwarding, RP_FILTER_LOOSE, SysctlChange, sample};
pub use surroundings::{Surroundings, surroundings};
pub use types::{
    Attachment, Existing, ExistingGroup, ExistingTunnel, GroupPlan, GroupRequest, HookChoice,
    Machine, MssClamp, Plan, PlannedHook, PlannedTunnel, Request, TunnelRequest, attachments,
};
pub use values::{IdleSpec, TunnelSpec, ValueError, WEIGHT_MAX, WeightSpec};
pub use values::{device_name, group_name, prefix, seed};

/// The weight of a tunnel for which none was given.
pub const WEIGHT_DEFAULT: u32 = 1;

#[cfg(test)]
mod tests;
