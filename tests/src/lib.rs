//! The lab and the tiers of tests that need root.

pub mod bench;
pub mod fuzz;
pub mod lab;
pub mod packets;
pub mod program;
pub mod scenario;
pub mod steerctl;
pub mod traffic;
mod tun;
