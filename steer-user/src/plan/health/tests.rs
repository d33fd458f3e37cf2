//! The machine as a whole: on simulated tunnels, and under anything that can happen.

mod chaos;
mod link;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use steer_common::abi::{Health, HealthReason, address_bytes};

use super::*;

const MS: u64 = 1_000_000;
const SEC: u64 = 1_000 * MS;
const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// A tunnel of which only its device is known.
const FRESH: Verdict = Verdict {
    health: Health::Up,
    reason: HealthReason::DeviceUp,
    since_ns: 0,
};

fn down(reason: HealthReason) -> Verdict {
    Verdict {
        health: Health::Down,
        reason,
        since_ns: 0,
    }
}
