//! Marks, and the rules and routes that act on them.

use crate::patient::{Patient, test};

test!(marks_rules_and_tables, |name| {
    let patient = Patient::steered(name, &["--hook", "mark"])?;
    patient
        .fails(
            "mark_rules",
            "rules",
            "lookup 572301' is missing",
            "ip rule del pref 5210 fwmark 0x2000000/0xff000000",
        )?
        .cured()?;
    patient
        .fails(
            "mark_routes",
            "wg0",
            "IPv4 table 572300 has no route to it",
            "ip route flush table 572300",
        )?
        .cured()?;
    patient
        .fails(
            "mark_routes",
            "wg1",
            "IPv6 table 572301 has no route to it",
            "ip -6 route flush table 572301",
        )?
        .cured()?;
    patient
        .warns(
            "mark_shadowed",
            "rules",
            "IPv4 rule 'pref 100 lookup 254' comes before steer's",
            "ip rule add pref 100 from 10.1.0.0/24 lookup main",
        )?
        .undone("ip rule del pref 100")?;
    patient
        .fails(
            "src_valid_mark",
            "lan0",
            "drops marked packets",
            "sysctl -qw net.ipv4.conf.lan0.rp_filter=1 net.ipv4.conf.all.src_valid_mark=1",
        )?
        .cured()?;
    patient
        .fails(
            "fwmark_reflect",
            "IPv4",
            "net.ipv4.fwmark_reflect=1",
            "sysctl -qw net.ipv4.fwmark_reflect=1",
        )?
        .cured()?;
    patient
        .fails(
            "fwmark_reflect",
            "IPv6",
            "net.ipv6.fwmark_reflect=1",
            "sysctl -qw net.ipv6.fwmark_reflect=1",
        )?
        .cured()?;
    // Other bits, in the end: the rule of somebody else stays.
    patient
        .fails(
            "mark_users",
            "marks",
            "uses bits of 0xff000000, which are steer's",
            "ip rule add pref 6000 fwmark 0x1000000/0xff000000 lookup 7",
        )?
        .cured()
});

test!(marks_before_a_start, |name| {
    let patient = Patient::unsteered(name)?;
    patient
        .warns(
            "mark_users",
            "marks",
            "uses bits of 0xff000000",
            "ip rule add pref 6000 fwmark 0x1000000/0xff000000 lookup 7",
        )?
        .undone("ip rule del pref 6000")
});
