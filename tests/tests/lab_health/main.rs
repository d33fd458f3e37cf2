//! Tunnels that die and come back, under traffic: real WireGuard, judged by what comes back to the client
//! and by what packet sockets on the tunnels saw.

mod death;
mod device;
mod far_end;
mod measure;
mod probes;
mod tiers;
mod watch;

steer_tests::ways! {
    probes_are_never_steered: crate::probes::never_steered, ingress egress mark;
}
