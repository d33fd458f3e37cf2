//! The lab and the tiers of tests that need root.
