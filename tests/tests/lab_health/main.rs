//! Tunnels that die and come back, under traffic: real WireGuard, judged by what comes back to the client
//! and by what packet sockets on the tunnels saw.

mod daemon;
mod death;
mod device;
mod far_end;
mod many;
mod probes;
mod signals;
mod tiers;

steer_tests::ways! {
    probes_are_never_steered: crate::probes::never_steered, ingress egress mark;
}
