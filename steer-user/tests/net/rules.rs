//! Policy rules: what the kernel has afterwards, by `ip rule` too.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use steer_user::net::{
    Family, MarkRule, NetError, Netlink, OwnRouting, ROUTE_PROTOCOL, Rule, RuleAction,
};

use crate::{Netns, block_on};

const MASK: u32 = 0xFF00_0000;

fn own() -> OwnRouting {
    OwnRouting {
        prefs: 5_210..=5_210,
        tables: 572_300..=572_315,
    }
}

fn wanted(family: Family, tunnel: u32) -> MarkRule {
    MarkRule {
        family,
        pref: 5_210,
        mark: (tunnel + 1) << 24,
        mask: MASK,
        table: 572_300 + tunnel,
    }
}

/// The rules of both families but those that every namespace has, as `ip rule` tells them.
fn by_ip(netns: &Netns) -> Vec<String> {
    let mut all = Vec::new();
    for (family, version) in [("-4", "IPv4"), ("-6", "IPv6")] {
        for rule in netns.json(&format!("{family} -details rule show")) {
            let number = |key: &str| rule[key].as_u64().unwrap_or(0);
            if number("priority") == 0 || number("priority") >= 32_766 {
                continue;
            }
            let text = |key: &str| rule[key].as_str().unwrap_or("-").to_owned();
            all.push(format!(
                "{version} {}{} {}/{} {} by {}",
                number("priority"),
                if rule.get("not").is_some() {
                    " not"
                } else {
                    ""
                },
                text("fwmark"),
                text("fwmask"),
                text("table"),
                text("protocol"),
            ));
        }
    }
    all
}

#[test]
fn anybodys_rules() {
    let Some(netns) = Netns::new("rules") else {
        return;
    };
    netns.ip("rule add pref 100 fwmark 0x1000000/0xff000000 lookup 7 protocol static");
    netns.ip("rule add not pref 200 fwmark 0xca6c lookup 51820");
    netns.ip("rule add pref 300 from 10.1.0.0/16 iif lo lookup 300");
    netns.ip("rule add pref 400 lookup main suppress_prefixlength 0");
    netns.ip("rule add pref 500 goto 600");
    netns.ip("rule add pref 600 nop");
    netns.ip("rule add pref 700 fwmark 5 unreachable");
    netns.ip("-6 rule add pref 800 dport 53 lookup 300");
    netns.enter();
    let rules =
        block_on(async { Netlink::connect().expect("netlink").rules().await }).expect("rules");
    let plain = Rule {
        family: Family::V4,
        pref: 0,
        mark: 0,
        mask: 0,
        action: RuleAction::Lookup(255),
        inverted: false,
        more: false,
        protocol: 2,
    };
    let rule = |pref, action| Rule {
        pref,
        action,
        protocol: 0,
        ..plain.clone()
    };
    let v6 = |rule: Rule| Rule {
        family: Family::V6,
        ..rule
    };
    let main = Rule {
        protocol: 2,
        ..rule(32_766, RuleAction::Lookup(254))
    };
    let expected = [
        plain.clone(),
        Rule {
            mark: 0x0100_0000,
            mask: MASK,
            protocol: 4,
            ..rule(100, RuleAction::Lookup(7))
        },
        Rule {
            mark: 0xCA6C,
            mask: u32::MAX,
            inverted: true,
            ..rule(200, RuleAction::Lookup(51_820))
        },
        Rule {
            more: true,
            ..rule(300, RuleAction::Lookup(300))
        },
        Rule {
            more: true,
            ..rule(400, RuleAction::Lookup(254))
        },
        rule(500, RuleAction::Goto(600)),
        rule(600, RuleAction::Nop),
        Rule {
            mark: 5,
            mask: u32::MAX,
            ..rule(700, RuleAction::Unreachable)
        },
        main.clone(),
        Rule {
            protocol: 2,
            ..rule(32_767, RuleAction::Lookup(253))
        },
        v6(plain.clone()),
        v6(Rule {
            more: true,
            ..rule(800, RuleAction::Lookup(300))
        }),
        v6(main),
    ];
    assert_eq!(rules, expected);
}

#[test]
fn exactly_the_wanted_ones() {
    let Some(netns) = Netns::new("ensure-rules") else {
        return;
    };
    // Somebody else's, as like ours as can be, and another steer's.
    netns.ip("rule add pref 5210 fwmark 0x1000000/0xff000000 lookup 572300 protocol static");
    netns.ip("rule add pref 5209 fwmark 0x1000000/0xff000000 lookup 572300 protocol 87");
    netns.ip("rule add pref 5210 fwmark 0x10000/0xff0000 lookup 572400 protocol 87");
    let foreign = by_ip(&netns);
    assert_eq!(foreign.len(), 3);
    // What a crash left.
    netns.ip("rule add pref 5210 fwmark 0x3000000/0xff000000 lookup 572302 protocol 87");
    netns.ip("rule add pref 5210 fwmark 0x100/0xff00 lookup 572300 protocol 87");
    netns.ip("-6 rule add pref 5210 iif lo lookup 572300 protocol 87");
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let want = [
            wanted(Family::V4, 0),
            wanted(Family::V4, 1),
            wanted(Family::V6, 0),
            wanted(Family::V6, 1),
        ];
        let changes = netlink.ensure_rules(&own(), &want).await.expect("ensure");
        assert_eq!(changes.added, want);
        assert_eq!(changes.removed.len(), 3);
        assert_eq!(changes.skipped, []);
        let ours = |rules: Vec<Rule>| -> Vec<Rule> {
            let own = own();
            rules
                .into_iter()
                .filter(|rule| own.has_rule(rule))
                .collect()
        };
        let now = netlink.rules().await.expect("rules");
        assert_eq!(ours(now), want.each_ref().map(Rule::from));
        let mut expected = foreign.clone();
        expected.extend(
            [
                "IPv4 5210 0x1000000/0xff000000 572300 by 87",
                "IPv4 5210 0x2000000/0xff000000 572301 by 87",
                "IPv6 5210 0x1000000/0xff000000 572300 by 87",
                "IPv6 5210 0x2000000/0xff000000 572301 by 87",
            ]
            .map(ToString::to_string),
        );
        assert_eq!(by_ip(&netns), expected);

        let again = netlink.ensure_rules(&own(), &want).await.expect("ensure");
        assert_eq!(again, steer_user::net::RuleChanges::default());
        assert_eq!(by_ip(&netns), expected);

        let fewer = netlink
            .ensure_rules(&own(), &want[1..3])
            .await
            .expect("ensure");
        assert_eq!(fewer.added, []);
        assert_eq!(fewer.removed, [&want[0], &want[3]].map(Rule::from));

        let removed = netlink.remove_rules(&own()).await.expect("remove");
        assert_eq!(removed, [&want[1], &want[2]].map(Rule::from));
        assert_eq!(by_ip(&netns), foreign);
        assert_eq!(netlink.remove_rules(&own()).await.expect("remove"), []);
    });
}

#[test]
fn ended_at_any_moment() {
    let Some(netns) = Netns::new("killed-rules") else {
        return;
    };
    netns.ip("rule add pref 5210 fwmark 0x1000000/0xff000000 lookup 572300 protocol static");
    let foreign = by_ip(&netns);
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let before = [wanted(Family::V4, 7), wanted(Family::V6, 7)];
        let want = [wanted(Family::V4, 0), wanted(Family::V6, 0)];
        let mut seen = BTreeSet::new();
        for steps in 0.. {
            netlink.ensure_rules(&own(), &before).await.expect("before");
            let finished = steps_of(netlink.ensure_rules(&own(), &want), steps).await;
            let now = netlink.rules().await.expect("rules");
            let all = |rules: &[MarkRule]| rules.iter().all(|rule| now.contains(&rule.into()));
            assert!(all(&before) || all(&want), "{now:#?}");
            seen.insert(by_ip(&netns));

            netlink.ensure_rules(&own(), &want).await.expect("ensure");
            let ours: Vec<Rule> = netlink.rules().await.expect("rules");
            let ours: Vec<&Rule> = ours.iter().filter(|rule| own().has_rule(rule)).collect();
            assert_eq!(ours, want.each_ref().map(Rule::from).each_ref());
            assert_eq!(by_ip(&netns)[..1], foreign);
            if finished {
                break;
            }
        }
        assert!(seen.len() >= 4, "too few different moments: {seen:#?}");
        let ours = netlink.remove_rules(&own()).await.expect("remove");
        assert_eq!(ours.len(), want.len());
        assert_eq!(by_ip(&netns), foreign);
    });
}

/// Drops a future after so many polls; whether it came to its end before.
async fn steps_of(future: impl Future, steps: usize) -> bool {
    let mut future = pin!(future);
    let mut left = steps;
    poll_fn(|context| {
        if future.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        Poll::Pending
    })
    .await
}

#[test]
fn one_rule() {
    let Some(netns) = Netns::new("one-rule") else {
        return;
    };
    netns.ip("rule add pref 5210 fwmark 0x1000000/0xff000000 lookup 572300 protocol static");
    let foreign = by_ip(&netns);
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let rule = wanted(Family::V4, 0);
        let errno = |error: NetError| match error {
            NetError::Request { what, cause } => (what, cause.raw_os_error()),
            other => panic!("{other}"),
        };
        let what = "IPv4 rule pref 5210 fwmark 0x1000000/0xff000000 lookup 572300";
        netlink.add_rule(&rule).await.expect("add");
        let error = netlink.add_rule(&rule).await.expect_err("twice");
        assert_eq!(errno(error), (what.into(), Some(libc::EEXIST)));
        netlink.delete_rule(&rule).await.expect("delete");
        assert_eq!(by_ip(&netns), foreign);
        let error = netlink.delete_rule(&rule).await.expect_err("gone");
        assert_eq!(errno(error), (what.into(), Some(libc::ENOENT)));
        assert_eq!(by_ip(&netns), foreign);
    });
}

#[test]
fn a_failure_undoes_what_was_added() {
    let Some(netns) = Netns::new("undo-rules") else {
        return;
    };
    // This one stays as it was: it is ours, but was not added now.
    netns.ip("rule add pref 5210 fwmark 0x5000000/0xff000000 lookup 572304 protocol 87");
    let before = by_ip(&netns);
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let own = OwnRouting {
            tables: 0..=572_315,
            ..own()
        };
        // IPv6 has no table 0.
        let bad = MarkRule {
            table: 0,
            ..wanted(Family::V6, 2)
        };
        let want = [
            wanted(Family::V4, 0),
            wanted(Family::V6, 1),
            bad,
            wanted(Family::V6, 3),
        ];
        let error = netlink.ensure_rules(&own, &want).await.expect_err("bad");
        assert_eq!(
            error.to_string(),
            "IPv6 rule pref 5210 fwmark 0x3000000/0xff000000 lookup 0: Invalid argument (os error 22); \
             added before, removed again: IPv6 rule pref 5210 fwmark 0x2000000/0xff000000 lookup 572301, \
             IPv4 rule pref 5210 fwmark 0x1000000/0xff000000 lookup 572300"
        );
        assert_eq!(by_ip(&netns), before);
    });
    assert_eq!(ROUTE_PROTOCOL, 87, "what these tests write to ip");
}
