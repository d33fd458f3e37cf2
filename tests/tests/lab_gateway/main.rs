//! The gateway itself: its own traffic, its other programs, its settings.

mod hash;
mod others;
mod own;
mod rp_filter;

steer_tests::ways! {
    ping_from_the_gateway: crate::own::ping, kernel ingress egress mark;
    transfer_from_the_gateway: crate::own::transfers, kernel ingress egress mark;
    another_program_on_the_lan: crate::others::on_the_lan, kernel ingress mark;
    another_filter_on_the_lan: crate::others::filter_on_the_lan, kernel ingress mark;
    another_program_on_a_tunnel: crate::others::on_a_tunnel, kernel ingress egress;
}
