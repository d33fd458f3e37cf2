//! Packets of every size and with little time to live, between real tunnels:
//! each scenario under the kernel alone and under steer with each hook.
//!
//! Judged by what packet sockets saw and what sockets got. What the kernel
//! alone does is asserted by the same lines as what steer does.

mod errors;
mod fragments;
mod path_mtu;

steer_tests::ways! {
    path_mtu_is_discovered: crate::path_mtu::is_discovered, kernel ingress egress mark;
    mss_is_clamped: crate::path_mtu::mss_is_clamped, kernel ingress egress mark;
    mss_is_clamped_to: crate::path_mtu::mss_is_clamped_to, ingress egress mark;
    too_big_names_the_flows_own_tunnel: crate::path_mtu::of_the_own_tunnel, kernel ingress mark auto;
    fragments_stay_together: crate::fragments::stay_together, kernel ingress egress mark;
    every_hop_answers: crate::errors::every_hop_answers, kernel ingress egress mark;
    errors_follow_their_flow: crate::errors::follow_their_flow, kernel ingress egress mark;
}
