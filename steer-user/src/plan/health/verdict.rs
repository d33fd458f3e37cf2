//! What is said of a tunnel, and what it is said by.

use std::net::IpAddr;

use steer_common::abi::{Health, HealthReason};

/// What a tunnel's device is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It does not exist.
    Gone,
    /// It is there, but not up.
    Down,
    /// It is up.
    Up,
}

/// What there is to judge a tunnel by, besides its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Nothing.
    Device,
    /// WireGuard's counters and handshakes.
    WireGuard,
    /// The answers of this address, and WireGuard's signals as long as it has given none.
    Echo(IpAddr),
}

/// A tunnel's health, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is used.
    pub health: Health,
    /// Why.
    pub reason: HealthReason,
    /// Since when the health is this one.
    pub since_ns: u64,
}

/// A verdict that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub before: Verdict,
    /// What it is.
    pub after: Verdict,
}

impl Transition {
    /// Whether more than the reason changed.
    pub fn changes_health(&self) -> bool {
        self.before.health != self.after.health
    }
}

/// What is to be said of a tunnel when steer starts and its device is so: what was known of it before goes on,
/// if it can be. Above all, one that was down because of its far end does not get flows for a restart.
pub fn at_start(
    device: DeviceState,
    before: Option<(Health, HealthReason)>,
) -> (Health, HealthReason) {
    match (device, before) {
        (DeviceState::Gone, _) => (Health::Down, HealthReason::DeviceGone),
        (DeviceState::Down, _) => (Health::Down, HealthReason::DeviceDown),
        (
            DeviceState::Up,
            None
            | Some((_, HealthReason::Unknown | HealthReason::DeviceDown | HealthReason::DeviceGone)),
        ) => (Health::Up, HealthReason::DeviceUp),
        (DeviceState::Up, Some(before)) => before,
    }
}
