//! The lab and the tiers of tests that need root.

pub mod lab;
pub mod traffic;
