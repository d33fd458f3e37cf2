use std::time::Duration;

use super::*;
use crate::plan::RouteLabel;

/// The lines of what is wrong with a text.
fn wrong(text: &str) -> Vec<String> {
    let error = Config::parse(text).expect_err("refused");
    error.lines().collect()
}

#[test]
fn everything_at_once() {
    let config = Config::parse(
        r#"
        hook = "egress"
        mss-clamp = 1380
        seed = "0x12"
        idle.tcp = "2h"
        probe.interval = "1s"
        [[group]]
        follow-routes = { tables = ["main", 100], metric-max = 1000 }
        [[group.tunnel]]
        name = "wg0"
        [[group.tunnel]]
        name = "wg1"
        weight = 3
        probe = { target = "10.9.0.2" }
        [[group.tunnel]]
        name = "wg2"
        probe = false
        "#,
    )
    .expect("valid");
    assert_eq!(config.seed, Some(0x12));
    assert_eq!(config.idle.tcp, Some(Duration::from_hours(2)));
    let group = config.group("default").expect("the group");
    assert_eq!((group.tunnels[0].weight, group.tunnels[1].weight), (1, 3));
    let Switch::On(routes) = &group.follow_routes else {
        panic!("{group:?}")
    };
    assert_eq!(
        routes.tables,
        [RouteLabel::Name("main".into()), RouteLabel::Number(100)]
    );
    let probes = config.probes();
    let target = probes.of("wg1").target;
    assert_eq!(target, Some([10, 9, 0, 2].into()));
    assert_eq!(probes.of("wg1").interval.as_secs(), 1);
    assert!(!probes.of("wg2").enabled && probes.of("wg1").enabled);
    assert_eq!(probes.of("wg7").target, None);
    let off = "probe = false\n[[group]]\n[[group.tunnel]]\nname = \"wg0\"\nprobe = true";
    let probes = Config::parse(off).expect("valid").probes();
    assert!(probes.of("wg0").enabled && !probes.of("wg1").enabled);
}

#[test]
fn every_wrong_key_and_value_is_told() {
    let text = r#"
hook = "sideways"
wieghts = "auto"
bypass-netfilter = "yes"
[idle]
upd = "3m"
tcp = "soon"
[[group]]
prefixes = ["10.2.0.0/16", "10.3.0.1/16"]
follow-routes = { tables = ["main", -1], protocol = ["bird"] }
iface = ["a/b"]
[[group.tunnel]]
weight = 70000
id = 255
[[group.tunnel]]
name = "wg1"
weight = "3"
probe = { target = "x", interval = "1ms" }
"#;
    assert_eq!(
        wrong(text),
        [
            "line 2: hook: \"sideways\": no such choice",
            "line 3: wieghts: unknown key",
            "line 4: bypass-netfilter: string \"yes\", where true or false should be",
            "line 6: idle.upd: unknown key",
            "line 7: idle.tcp: idle time \"soon\" is not a time",
            "line 9: group.prefixes: prefix 10.3.0.1/16 has bits set behind its length",
            "line 9: group.prefixes: the prefixes are those of the routes that are followed",
            "line 10: group.follow-routes.tables: \"-1\" is neither a name nor a number",
            "line 10: group.follow-routes.protocol: unknown key",
            "line 11: group.iface: \"a/b\" is not a device name: 1 to 15 characters without space and slash",
            "line 12: group.tunnel: `name` is missing",
            "line 13: group.tunnel.weight: 70000 is not in 0 to 65535",
            "line 14: group.tunnel.id: 255 is not in 0 to 254",
            "line 17: group.tunnel.weight: string \"3\", where a number from 0 to 65535 should be",
            "line 18: group.tunnel.probe.target: \"x\" is not an IP address",
            "line 18: group.tunnel.probe.interval: probe interval \"1ms\" is not a time between 20ms and 10s",
        ]
    );
    let error = Config::parse(text).expect_err("refused");
    let hints: Vec<_> = error
        .problems
        .iter()
        .filter_map(|problem| Some((problem.line, problem.hint.as_deref()?)))
        .collect();
    assert_eq!(
        hints,
        [
            (2, "choices: auto, ingress, egress, mark"),
            (3, "did you mean `weights`?"),
            (6, "did you mean `udp`?"),
            (9, "the network is 10.3.0.0/16"),
            (9, "leave out prefixes or follow-routes"),
            (10, "did you mean `protocols`?"),
        ]
    );
}

#[test]
fn types_in_words() {
    let text = "[[group]]\nfollow-routes = { metric-max = \"x\" }\niface = [3]\n[[group.tunnel]]\nname = \"wg0\"\n\
                probe = { degraded-loss = \"x\" }";
    assert_eq!(
        wrong(text),
        [
            "line 2: group.follow-routes.metric-max: string \"x\", where a number from 0 should be",
            "line 3: group.iface: integer `3`, where a text in quotes should be",
            "line 6: group.tunnel.probe.degraded-loss: string \"x\", where a number should be",
        ]
    );
}

#[test]
fn wrong_syntax() {
    assert_eq!(
        wrong("hook = \nseed = 3 3\n"),
        [
            "line 1: string values must be quoted, expected literal string",
            "line 2: string values must be quoted, expected literal string",
        ]
    );
    assert_eq!(wrong("fix = true\nfix = false"), ["line 2: duplicate key"]);
    assert_eq!(
        wrong("[group]\nname = \"x\""),
        ["line 1: group: a table, where an array of tables should be"]
    );
}

#[test]
fn what_no_gateway_could_do() {
    let text = r#"
hook = "ingress"
[[group]]
prefixes = ["10.2.0.0/16", "10.2.0.0/16", "10.2.7.0/24", "0.0.0.0/0"]
[[group.tunnel]]
name = "wg0"
id = 3
[[group.tunnel]]
name = "wg0"
[[group]]
prefixes = ["10.2.9.0/24", "239.1.0.0/16"]
[[group]]
name = "site"
follow-routes = true
prefixes = ["10.4.0.0/16"]
[[group.tunnel]]
name = "wg0"
weight = 0
[[group.tunnel]]
name = "wg2"
weight = 0
id = 3
"#;
    assert_eq!(
        wrong(text),
        [
            "line 2: hook: no LAN device given",
            "line 4: group.prefixes: prefix 0.0.0.0/0: the default route cannot be steered",
            "line 4: group.prefixes: prefix 10.2.0.0/16: given twice",
            "line 4: group.prefixes: prefix 10.2.7.0/24: overlaps prefix 10.2.0.0/16",
            "line 9: group.tunnel.name: tunnel wg0: given twice",
            "line 10: group.name: group default: given twice",
            "line 10: group: group default: names no tunnel",
            "line 11: group.prefixes: prefix 239.1.0.0/16: multicast addresses are never steered",
            "line 11: group.prefixes: prefix 10.2.9.0/24: overlaps prefix 10.2.0.0/16 of group default",
            "line 12: group: group site: all weights are 0, so no tunnel could get new flows",
            "line 15: group.prefixes: the prefixes are those of the routes that are followed",
            "line 17: group.tunnel.name: tunnel wg0: belongs to group default",
            "line 22: group.tunnel.id: tunnel wg2: id 3 is taken by tunnel wg0",
        ]
    );
    assert_eq!(wrong(""), ["line 1: there is no group"]);
    assert_eq!(
        wrong("[[group]]\nprefixes = []\ntunnel = []"),
        [
            "line 2: group.prefixes: is empty",
            "line 3: group.tunnel: is empty",
        ]
    );
    let follows = "[[group]]\nfollow-routes = true\nprefixes = []\niface = []";
    assert!(Config::parse(follows).is_ok());
    let lan = "[[group]]\niface = [\"lan0\", \"wg0\", \"lan0\"]\n[[group.tunnel]]\nname = \"wg0\"";
    assert_eq!(
        wrong(lan),
        [
            "line 2: group.iface: device wg0: is a tunnel, so it cannot be a LAN device",
            "line 2: group.iface: device lan0: given twice",
        ]
    );
}
