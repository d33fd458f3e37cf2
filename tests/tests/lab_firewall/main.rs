//! Gateways with firewalls and NAT: each scenario under the kernel alone, and
//! under steer as it chooses itself and where else it must work.
//!
//! The weights change, a tunnel is disabled: 200 live connections stay, or only those
//! of the disabled tunnel are affected; and what the firewall forbids stays forbidden.

mod life;
mod nat;
mod stateful;

steer_tests::ways! {
    stateful_nft: crate::stateful::nft, kernel auto mark;
    stateful_iptables: crate::stateful::iptables, kernel auto;
    masquerade_per_tunnel: crate::nat::masquerade, kernel auto;
    port_forward: crate::nat::port_forward, kernel auto;
    masquerade_and_port_forward: crate::nat::both, kernel auto;
}
