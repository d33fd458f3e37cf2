//! What is known of a tunnel.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use super::NAME_BYTES;

/// What the operator wants of a tunnel.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Admin {
    /// No such tunnel.
    Absent = 0,
    /// In use.
    Active = 1,
    /// Keeps its flows, gets no new ones.
    Drain = 2,
    /// Its flows leave at their next packet.
    Disabled = 3,
}

impl Admin {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Disabled => "disabled",
        }
    }
}

/// What is known of a tunnel's ability to carry packets.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Health {
    /// Nobody has looked yet; used like `Up`.
    Unknown = 0,
    /// Carries packets.
    Up = 1,
    /// Carries packets badly; used like `Up`.
    Degraded = 2,
    /// Carries none: device down or gone, or the probe failed.
    Down = 3,
}

impl Health {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// What the packet path needs of a tunnel. Eight bytes, so that no reader sees half of an update.
/// The MTU is not here: the program asks the device itself.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Tunnel {
    /// The device; 0 when it does not exist now.
    pub ifindex: u32,
    /// What the operator wants.
    pub admin: Admin,
    /// What is known.
    pub health: Health,
    /// Always 0.
    pub reserved: u16,
}

/// What only userspace needs of a tunnel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TunnelInfo {
    /// Device name, zero-padded; all zero when there is no such tunnel.
    pub name: [u8; NAME_BYTES],
    /// Weight, 0 to 65,535.
    pub weight: u32,
    /// The [`GroupId`](super::GroupId) of its home group.
    pub group: u32,
    /// The device's `rp_filter` before steer changed it, plus 1; 0 when steer did not.
    pub rp_filter_before: u32,
    /// Tunnels of a larger tier take new flows only while none of a smaller one can; 0 is the best.
    pub tier: u32,
}

/// Why a tunnel has the health that it has, or the weight, by measurement. Append only.
#[repr(u32)]
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum HealthReason {
    /// Nobody has said.
    #[default]
    Unknown = 0,
    /// Its device is up, and nothing is probed.
    DeviceUp = 1,
    /// Its device is down.
    DeviceDown = 2,
    /// Its device does not exist.
    DeviceGone = 3,
    /// The far end answers probes.
    Answering = 4,
    /// The far end answers probes no more.
    NotAnswering = 5,
    /// Packets go in and none come out.
    NoReplies = 6,
    /// Too many probes are lost.
    Lossy = 7,
    /// Answers take too long.
    Slow = 8,
    /// It came and went too often: it has to prove itself for longer.
    Flapping = 9,
    /// Probes are under way, and none was answered yet.
    NoAnswerYet = 10,
    /// Of a weight: others are congested, and this one is not.
    RoomLeft = 11,
    /// Of a weight: all are congested, and this is its part of the bytes.
    Goodput = 12,
    /// Of a weight: other numbers for the same shares.
    Rescaled = 13,
    /// Of a weight: none is congested any more, so it goes back to what the operator wants.
    Calm = 14,
}

impl HealthReason {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::DeviceUp => "device_up",
            Self::DeviceDown => "device_down",
            Self::DeviceGone => "device_gone",
            Self::Answering => "answering",
            Self::NotAnswering => "not_answering",
            Self::NoReplies => "no_replies",
            Self::Lossy => "lossy",
            Self::Slow => "slow",
            Self::Flapping => "flapping",
            Self::NoAnswerYet => "no_answer_yet",
            Self::RoomLeft => "room_left",
            Self::Goodput => "goodput",
            Self::Rescaled => "rescaled",
            Self::Calm => "calm",
        }
    }
}

/// What the daemon measured of a tunnel. The packet path reads [`Tunnel::health`] only.
#[repr(C)]
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct TunnelHealth {
    /// Since when its health is what it is; 0 when nobody has said.
    pub since_ns: u64,
    /// When a probe was sent last; 0 when none was.
    pub probed_ns: u64,
    /// Round-trip time of the probes, smoothed, in microseconds; 0 when it is not known.
    pub rtt_us: u32,
    /// How much that varies, smoothed.
    pub jitter_us: u32,
    /// Share of lost probes, smoothed, in millionths.
    pub loss_ppm: u32,
    /// Why its health is what it is.
    pub reason: HealthReason,
    /// The probed address whose silence would mean something, because it did answer (IPv4 as `::ffff:a.b.c.d`);
    /// all zero while there is none.
    pub answered_by: [u8; 16],
}
