//! What is attached where.

use bytemuck::{CheckedBitPattern, NoUninit};

use super::NAME_BYTES;

/// Where a program is attached.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum HookKind {
    /// Ingress of the LAN device: steers.
    Ingress = 1,
    /// Ingress of a tunnel: learns, and forwards to the LAN in ingress mode.
    Learn = 2,
    /// Egress of a tunnel: steers.
    Egress = 3,
    /// Ingress of the LAN device: marks.
    Mark = 4,
    /// Egress of a tunnel in mark mode: leads what comes from another tunnel's own address there.
    Own = 5,
}

impl HookKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ingress,
        Self::Learn,
        Self::Egress,
        Self::Mark,
        Self::Own,
    ];

    /// The name in JSON, tables and pins.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Learn => "learn",
            Self::Egress => "egress",
            Self::Mark => "mark",
            Self::Own => "own",
        }
    }
}

/// Where among the programs of a device ours stands.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum HookOrder {
    /// Before those that are there.
    First = 1,
    /// After them.
    Last = 2,
}

impl HookOrder {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Last];
}

/// How a program is attached.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum AttachKind {
    /// A TCX link (kernel 6.6), pinned.
    Tcx = 1,
    /// A filter of the clsact qdisc that was there.
    Clsact = 2,
    /// A filter of a clsact qdisc that steer made, and removes when it is empty.
    ClsactOwned = 3,
}

/// A hook's identity.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub struct HookKey {
    /// The device.
    pub ifindex: u32,
    /// Which program.
    pub kind: HookKind,
}

/// A hook that steer has attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Hook {
    /// Device name, zero-padded.
    pub name: [u8; NAME_BYTES],
    /// How.
    pub attach: AttachKind,
    /// The group's [`GroupId`](super::GroupId).
    pub group: u32,
    /// The kernel's id of the program that was attached last.
    pub program_id: u32,
    /// Where among the device's programs.
    pub order: HookOrder,
}
