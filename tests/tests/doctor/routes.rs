//! Routes, forwarding, reverse path filters, packet sizes.

use steer_tests::steerctl::has;

use crate::patient::{Patient, STEER, test};

test!(forwarding_and_routes, |name| {
    let patient = Patient::steered(name, &[])?;
    let off = "IPv4 forwarding is off: what steer leaves to the kernel is not forwarded";
    patient
        .warns(
            "forwarding",
            "IPv4",
            off,
            "sysctl -qw net.ipv4.ip_forward=0",
        )?
        .cured()?;
    patient
        .warns(
            "forwarding",
            "IPv6",
            "IPv6 forwarding is off",
            "sysctl -qw net.ipv6.conf.all.forwarding=0",
        )?
        .cured()?;
    patient
        .warns(
            "device_forwarding",
            "wg1",
            "is not forwarded",
            "sysctl -qw net.ipv4.conf.wg1.forwarding=0",
        )?
        .cured()?;
    patient
        .warns(
            "routes",
            "routes",
            "fd00:2::/64: the kernel has no route",
            "ip -6 route del fd00:2::/64",
        )?
        .cured()?;
    patient
        .warns(
            "routes",
            "routes",
            "10.2.0.0/16: the kernel's route leads to lan0",
            "ip route replace 10.2.0.0/16 via 10.1.0.2",
        )?
        .cured()?;
    patient
        .warns(
            "prefixes",
            "prefixes",
            "contains 10.2.0.9, this gateway's own address on lo",
            "ip addr add 10.2.0.9/32 dev lo",
        )?
        .undone("ip addr del 10.2.0.9/32 dev lo")?;
    patient
        .fails(
            "rp_filter",
            "wg1",
            "replies that come by it would be dropped",
            "sysctl -qw net.ipv4.conf.wg1.rp_filter=1",
        )?
        .cured()?;
    // Behind the kernel everything depends on it.
    patient.sh("steerctl attach --hook egress")?;
    patient.examine()?;
    patient
        .fails(
            "forwarding",
            "IPv4",
            "only this gateway's own packets reach the tunnels",
            "sysctl -qw net.ipv4.ip_forward=0",
        )?
        .cured()?;
    patient
        .fails(
            "device_forwarding",
            "wg1",
            "is not forwarded",
            "sysctl -qw net.ipv4.conf.wg1.forwarding=0",
        )?
        .cured()?;
    patient
        .fails(
            "routes",
            "routes",
            "10.2.0.0/16: the kernel has no route: nothing of it reaches the tunnels",
            "ip route del 10.2.0.0/16",
        )?
        .cured()
});

test!(a_strict_lan, |name| {
    let patient = Patient::steered(name, &[])?;
    patient
        .warns(
            "rp_filter",
            "lan0",
            "steered packets bypass net.ipv4.conf.lan0.rp_filter",
            "sysctl -qw net.ipv4.conf.lan0.rp_filter=1",
        )?
        .cured()
});

test!(packet_sizes, |name| {
    let patient = Patient::steered(name, &[])?;
    patient
        .fails(
            "mtu_group",
            "group default",
            "(wg0 1420, wg1 1380)",
            "ip link set wg1 mtu 1380",
        )?
        .cured()?;
    patient
        .fails(
            "ipv6",
            "wg1",
            "MTU 1200: IPv6 needs 1280",
            "ip link set wg1 mtu 1200",
        )?
        .cured()?;
    patient
        .fails(
            "ipv6",
            "wg0",
            "IPv6 is switched off",
            "sysctl -qw net.ipv6.conf.wg0.disable_ipv6=1",
        )?
        .cured()
});

const STATEFUL: &str = "nft 'add table inet filter; \
    add chain inet filter forward { type filter hook forward priority 0; }; \
    add rule inet filter forward ct state invalid drop'";
const MASQUERADE: &str = "nft 'add table ip nat; \
    add chain ip nat out { type nat hook postrouting priority 100; }; \
    add rule ip nat out oifname \"wg*\" masquerade'";

test!(netfilter_rules_that_came_since_the_start, |name| {
    if !has(name, &["nft"]) {
        return Ok(());
    }
    let patient = Patient::steered(name, &[])?;
    let stateful = "would bypass nft table inet filter, chain forward, which tracks connections";
    patient
        .fails("bypassed", "netfilter", stateful, STATEFUL)?
        .cured()?;
    let nat = "flows that nft table ip nat, chain out translates stay on the tunnel";
    // Its device has to be named: hook egress has none.
    patient
        .warns("bypassed", "netfilter", nat, MASQUERADE)?
        .undone(&format!("steerctl attach --hook mark {}", STEER.join(" ")))
});
