//! `steerctl doctor`: every fault that a gateway in a namespace can have is made, is named with its
//! fix, and is gone when the fix was applied. What a namespace cannot have (an old kernel, a missing
//! feature) is in the unit tests of `steer_user::plan::doctor`.

mod patient;

mod config;
mod hooks;
mod ipsec;
mod marks;
mod pins;
mod routes;
mod traffic;
mod tunnels;
mod wireguard;
