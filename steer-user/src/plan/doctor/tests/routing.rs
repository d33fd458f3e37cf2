//! Routes and marks.

use super::*;

fn rule(pref: u32, mark: u32, mask: u32, action: RuleAction) -> Rule {
    Rule {
        family: Family::V4,
        pref,
        mark,
        mask,
        action,
        inverted: false,
        more: false,
        protocol: 3,
    }
}

#[test]
fn routes() {
    let mut told = Vec::new();
    let off: OnFacts = |f| f.forwarding.off = vec![Family::V4, Family::V6];
    told.push(warns("forwarding", AS_THEY_ARE, off));
    told.push(fails("forwarding", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Mark;
        f.forwarding.off = vec![Family::V6];
    }));
    told.push(warns("device_forwarding", AS_THEY_ARE, |f| {
        f.sysctls.not_forwarding = vec!["lan0.10".into()];
    }));
    fails("device_forwarding", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Egress;
        f.sysctls.not_forwarding = vec!["lan0".into()];
    });
    told.push(warns("routes", AS_THEY_ARE, |f| {
        f.forwarding.routes[0].1 = KernelRoute::None;
        f.forwarding.routes[1].1 = KernelRoute::None;
    }));
    told.push(fails("routes", AS_THEY_ARE, |f| {
        f.steered.mode = HookMode::Egress;
        f.forwarding.routes[0].1 = KernelRoute::Devices(vec![2]);
    }));
    told.push(warns(
        "prefixes",
        |d| d[0].addresses.push("10.2.0.9/32".parse().expect("net")),
        AS_IS,
    ));
    told.push(warns(
        "prefixes",
        |d| peer(&mut d[3]).endpoint = "10.2.0.7:1".parse().ok(),
        AS_IS,
    ));
    told.push(fails("rp_filter", AS_THEY_ARE, |f| {
        f.forwarding.rp_filters[1].1.device = 1;
    }));
    // The kernel's route is by this one.
    let own = found("rp_filter", AS_THEY_ARE, |f| {
        f.forwarding.rp_filters[0].1.device = 1;
    });
    assert_eq!(own[0].level, Level::Ok);
    told.push(warns("rp_filter", AS_THEY_ARE, |f| {
        f.machine.strict = vec!["lan0".into()];
    }));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn packet_marks() {
    let mut told = Vec::new();
    let uses: OnFacts = |f| {
        mark(f);
        f.machine
            .rules
            .push(rule(6_000, 0x0100_0000, 0xff00_0000, RuleAction::Lookup(7)));
    };
    told.push(fails("mark_users", AS_THEY_ARE, uses));
    told.push(warns(
        "mark_users",
        |d| d[2].wireguard.as_mut().expect("WireGuard").fwmark = Some(0x0200_0001),
        nothing_is_pinned,
    ));
    told.push(fails("mark_rules", AS_THEY_ARE, |f| {
        mark(f);
        f.machine.rules.remove(0);
    }));
    told.push(fails("mark_routes", AS_THEY_ARE, |f| {
        mark(f);
        f.tunnel_routes[2].ifindex = Some(99);
    }));
    for (before, is_told) in [
        (rule(0, 0, 0, RuleAction::Lookup(255)), false),
        (rule(100, 0, 0, RuleAction::Lookup(254)), true),
        (rule(100, 0, 0, RuleAction::Nop), false),
        (rule(6_000, 0, 0, RuleAction::Lookup(254)), false),
        (rule(100, 0xca6c, u32::MAX, RuleAction::Lookup(7)), false),
        (
            Rule {
                inverted: true,
                ..rule(100, 0xca6c, u32::MAX, RuleAction::Lookup(7))
            },
            true,
        ),
    ] {
        let devices = Devices::new(devices());
        let mut facts = facts(&devices);
        mark(&mut facts);
        facts.machine.rules.push(before.clone());
        let mut findings = examine(&facts);
        findings.retain(|finding| finding.check == "mark_shadowed");
        assert_eq!(findings[0].level == Level::Warn, is_told, "{before}");
    }
    told.push(warns("mark_shadowed", AS_THEY_ARE, |f| {
        mark(f);
        f.machine
            .rules
            .push(rule(100, 0, 0, RuleAction::Lookup(254)));
    }));
    told.push(fails("src_valid_mark", AS_THEY_ARE, |f| {
        mark(f);
        f.machine.strict = vec!["lan0".into()];
        f.sysctls.src_valid_mark = vec!["lan0".into()];
    }));
    told.push(fails("fwmark_reflect", AS_THEY_ARE, |f| {
        mark(f);
        f.sysctls.fwmark_reflect = vec![Family::V4];
    }));
    insta::assert_snapshot!(told.join("\n"));
}
