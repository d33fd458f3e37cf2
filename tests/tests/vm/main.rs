//! The vm tier's own tests: what takes WireGuard in the kernel, netem, or another kernel than most
//! machines that build steer have. `cargo xtask vm` boots them.

mod attach;
mod device;
mod merged;
mod netem;
mod release;
