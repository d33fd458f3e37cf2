//! Groups, their tunnels and prefixes, and bucket tables.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use super::{BUCKETS, MEMBER_WORDS, NAME_BYTES, TUNNEL_ID_MAX, TunnelId};

/// How a new flow gets its tunnel.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Placement {
    /// No such group.
    Absent = 0,
    /// By the bucket table.
    Hash = 1,
}

/// Where a group's prefixes come from.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum PrefixSource {
    /// From the operator.
    Operator = 0,
    /// From the kernel's routes.
    Routes = 1,
}

/// Tunnels that serve the same remote prefixes.
///
/// An operator makes a *home* group; its members are all of its tunnels. Routes make *derived* groups, each
/// for some tunnels of a home group and the weights that the routes give them. What a
/// derived group consists of never changes: another choice is another group.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Group {
    /// Name, zero-padded.
    pub name: [u8; NAME_BYTES],
    /// How its new flows are placed.
    pub placement: Placement,
    /// The [`GroupId`](super::GroupId) of the home group; its own for one.
    pub parent: u32,
    /// The tunnels that may carry its flows, a bit each; made by [`bitmap`].
    pub members: [u64; MEMBER_WORDS],
    /// Where the prefixes of a home group come from.
    pub prefixes_from: PrefixSource,
    /// Always 0.
    pub reserved: u32,
}

impl Group {
    /// Whether a tunnel may carry its flows.
    #[inline(always)]
    pub const fn has_member(&self, tunnel: TunnelId) -> bool {
        self.members[tunnel as usize / 64] & bit(tunnel) != 0
    }

    /// Its members in ascending order.
    pub fn members(&self) -> impl Iterator<Item = TunnelId> + '_ {
        (0..=TUNNEL_ID_MAX).filter(|id| self.has_member(*id))
    }
}

/// The bitmap of some tunnels.
pub fn bitmap(tunnels: impl IntoIterator<Item = TunnelId>) -> [u64; MEMBER_WORDS] {
    let mut members = [0; MEMBER_WORDS];
    for tunnel in tunnels {
        members[usize::from(tunnel) / 64] |= bit(tunnel);
    }
    members
}

/// A tunnel's bit in its word.
const fn bit(tunnel: TunnelId) -> u64 {
    1 << (tunnel % 64)
}

/// A tunnel in a derived group.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct MembershipKey {
    /// The group's [`GroupId`](super::GroupId).
    pub group: u32,
    /// The tunnel's [`TunnelId`].
    pub tunnel: u32,
}

/// What the routes say of a tunnel in a derived group.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Membership {
    /// Weight of the next hop, from 1; the tunnel's own weight is multiplied by it.
    pub weight: u32,
}

/// What becomes of packets to a prefix.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum PrefixKind {
    /// They are steered.
    Steered = 0,
    /// They are left to the kernel, whose route leads elsewhere, although a shorter prefix is steered.
    Hole = 1,
}

/// What a destination prefix belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Prefix {
    /// The group's [`GroupId`](super::GroupId); the home group around a hole.
    pub group: u32,
    /// Whether it is steered.
    pub kind: PrefixKind,
}

/// Which tunnel a device is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TunnelRef {
    /// Its [`TunnelId`].
    pub tunnel: u32,
    /// The group's [`GroupId`](super::GroupId).
    pub group: u32,
}

/// A group's consistent-hash table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BucketTable {
    /// The tunnel of each bucket, or [`NO_TUNNEL`](super::NO_TUNNEL).
    pub buckets: [TunnelId; BUCKETS],
}
