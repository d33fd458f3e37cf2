//! Planning and validation: what an operator asks for, checked against what
//! there is, before anything is touched. Pure: no clock, no kernel, no file.

pub mod auto_weights;
mod change;
mod difference;
mod discover;
pub mod doctor;
mod error;
mod events;
mod flow;
mod follow;
mod gateway;
mod group;
pub mod health;
mod ids;
mod lan;
mod limits;
mod marks;
mod mode;
mod pace;
mod prefixes;
pub mod rebalance;
mod replies;
mod requirements;
mod routes;
mod served;
mod shares;
mod surroundings;
mod tiers;
mod tunnels;
mod types;
mod values;

pub use change::{Change, TunnelChange, change_admin, change_weights, undrain};
pub use difference::{Difference, Entry, EntryKind};
pub use error::PlanError;
pub use events::{changes, decode_name, encode_name, hook_changes};
pub use flow::{FlowEndpoint, FlowNumbers, protocol, protocol_name};
pub use follow::{FollowSpec, RouteLabel};
pub use gateway::plan;
pub use limits::{FLOW_BYTES, Idle, default_max_flows};
pub use marks::{MarkMask, Marks, own_routing};
pub use mode::{mss_clamp_name, unequal_mtus};
pub use pace::{DrainPace, RATE_MAX, Rate};
pub use prefixes::{check_prefix, conflicts, left_to_kernel};
pub use replies::{Forwarding, RP_FILTER_LOOSE, SysctlChange, sample};
pub use requirements::{RequirementError, check_capabilities, check_kernel, check_start};
pub use routes::{
    DerivedGroup, FollowRoutes, Following, GroupCount, HopSet, Left, LeftReason, Pinned, Steps,
    Target, follow,
};
pub use served::{Fate, Served, drain, note_routes};
pub use shares::{Candidate, RoutedSet, RoutedShare, routed_shares, shares};
pub use surroundings::{Surroundings, surroundings};
pub use tiers::{Candidate as TunnelCandidate, members};
pub use tunnels::{
    Conf, ConfError, End, HostPort, NearEndpoint, NewTunnel, PublicKey, Secret, Secrets, Side,
    TunnelKeys, TunnelsError, TunnelsPlan, TunnelsRequest, plan_tunnels,
};
pub use types::{
    Attachment, Existing, ExistingGroup, ExistingTunnel, GroupPlan, GroupRequest, HookChoice,
    Machine, MssClamp, Plan, PlannedHook, PlannedTunnel, Request, TunnelRequest, attachments,
};
pub use values::{IdleSpec, Since, TunnelSpec, ValueError, WEIGHT_MAX, WeightSpec};
pub use values::{device_name, group_name, prefix, seed, time};

/// The weight of a tunnel for which none was given.
pub const WEIGHT_DEFAULT: u32 = 1;

#[cfg(test)]
mod tests;
