//! What happened: events of the control plane, and moves of flows.
//!
//! Both are rings that keep the latest and never wait for a reader; any number of readers see all
//! that is there.

use bytemuck::{CheckedBitPattern, NoUninit};

use super::{FlowKey, HealthReason, NAME_BYTES};

/// What an [`Event`] tells. Append only.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum EventKind {
    /// None was written here yet.
    Empty = 0,
    /// A daemon took its role.
    Started = 1,
    /// A daemon left.
    Stopped = 2,
    /// A program was attached to the device `name`.
    Attached = 3,
    /// A program was detached from the device `name`.
    Detached = 4,
    /// The configuration was read again and applied.
    Reloaded = 5,
    /// A tunnel's health changed `before` → `after`, numbers of [`Health`](super::Health).
    HealthChanged = 6,
    /// A tunnel's admin state changed `before` → `after`, numbers of [`Admin`](super::Admin).
    AdminChanged = 7,
    /// A tunnel's weight changed `before` → `after`.
    WeightChanged = 8,
    /// A tunnel's tier changed `before` → `after`.
    TierChanged = 9,
    /// A tunnel's device changed its number, `before` → `after`; 0 is no device.
    DeviceChanged = 10,
    /// There is a new tunnel.
    TunnelAdded = 11,
    /// A tunnel is no longer there.
    TunnelRemoved = 12,
    /// A prefix came: `name` is its address, `after` its length.
    PrefixAdded = 13,
    /// A prefix went: `name` is its address, `before` its length.
    PrefixRemoved = 14,
    /// Routes changed: `count` prefixes; of the group `before` → `after` in all.
    RoutesChanged = 15,
    /// Live flows were moved towards the weights: `count` of them.
    Rebalanced = 16,
    /// A tunnel is drained: `count` flows were left and moved.
    DrainDone = 17,
}

impl EventKind {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Reloaded => "reloaded",
            Self::HealthChanged => "health_changed",
            Self::AdminChanged => "admin_changed",
            Self::WeightChanged => "weight_changed",
            Self::TierChanged => "tier_changed",
            Self::DeviceChanged => "device_changed",
            Self::TunnelAdded => "tunnel_added",
            Self::TunnelRemoved => "tunnel_removed",
            Self::PrefixAdded => "prefix_added",
            Self::PrefixRemoved => "prefix_removed",
            Self::RoutesChanged => "routes_changed",
            Self::Rebalanced => "rebalanced",
            Self::DrainDone => "drain_done",
        }
    }
}

/// Who or what made an [`Event`] happen. Append only.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum Cause {
    /// Nobody has said.
    Unset = 0,
    /// A command line.
    Operator = 1,
    /// The configuration file.
    Config = 2,
    /// The daemon, of what it saw.
    Daemon = 3,
    /// Routes that are followed.
    Routes = 4,
    /// Automatic weights.
    Auto = 5,
}

impl Cause {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Operator => "operator",
            Self::Config => "config",
            Self::Daemon => "daemon",
            Self::Routes => "routes",
            Self::Auto => "auto",
        }
    }
}

/// Something that happened to the control plane.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Event {
    /// Its number, from 1; 0 where there is none.
    pub seq: u64,
    /// When.
    pub at_ns: u64,
    /// What.
    pub kind: EventKind,
    /// The [`TunnelId`](super::TunnelId), or [`NO_TUNNEL`](super::NO_TUNNEL).
    pub tunnel: u32,
    /// The [`GroupId`](super::GroupId), or [`Event::NO_GROUP`].
    pub group: u32,
    /// What was; its meaning depends on the kind.
    pub before: u32,
    /// What is.
    pub after: u32,
    /// How many.
    pub count: u32,
    /// Why, where health changed.
    pub reason: HealthReason,
    /// Who.
    pub cause: Cause,
    /// Name of the tunnel or device, zero-padded; the address of a prefix.
    pub name: [u8; NAME_BYTES],
}

impl Event {
    /// [`Event::group`] where it is about none.
    pub const NO_GROUP: u32 = u32::MAX;

    /// One that is about nothing in particular; number and time come when it is written.
    pub const fn new(kind: EventKind, cause: Cause) -> Self {
        Self {
            seq: 0,
            at_ns: 0,
            kind,
            tunnel: super::NO_TUNNEL as u32,
            group: Self::NO_GROUP,
            before: 0,
            after: 0,
            count: 0,
            reason: HealthReason::Unknown,
            cause,
            name: [0; NAME_BYTES],
        }
    }
}

/// Why a flow was put on another tunnel. Append only.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum MoveReason {
    /// Its tunnel was down.
    TunnelDown = 1,
    /// The operator took its tunnel out.
    TunnelDisabled = 2,
    /// Its tunnel, or the tunnel's device, did not exist.
    TunnelGone = 3,
    /// The routes to its prefix no longer lead through its tunnel.
    RouteGone = 4,
    /// The far end moved it.
    FarEnd = 5,
    /// To bring the shares closer to the weights.
    Rebalanced = 6,
}

impl MoveReason {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TunnelDown => "tunnel_down",
            Self::TunnelDisabled => "tunnel_disabled",
            Self::TunnelGone => "tunnel_gone",
            Self::RouteGone => "route_gone",
            Self::FarEnd => "far_end",
            Self::Rebalanced => "rebalanced",
        }
    }
}

/// A flow that was put on another tunnel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Move {
    /// Its number on this CPU, from 1; 0 where there is none, or while it is being written.
    pub seq: u64,
    /// When.
    pub at_ns: u64,
    /// Which flow.
    pub key: FlowKey,
    /// The [`TunnelId`](super::TunnelId) that it was on.
    pub from: u32,
    /// The one that it is on.
    pub to: u32,
    /// The [`GroupId`](super::GroupId) of the flow.
    pub group: u32,
    /// Why.
    pub reason: MoveReason,
}
