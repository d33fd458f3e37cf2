//! Rules of `nf_tables`, as `nft` makes them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use steer_user::net::PacketFamily::{Both, Ipv4, Ipv6};
use steer_user::net::{DeviceSet, FindingKind, Netfilter};

use crate::{Netns, devices, expect, run, source_nat};

/// Makes these the only rules of `nf_tables`, at once.
fn nft(rules: &str) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    let mut input = nft.stdin.take().expect("stdin");
    write!(input, "flush ruleset\n{rules}\n").expect("nft reads");
    drop(input);
    assert!(nft.wait().expect("nft").success(), "{rules}");
}

#[test]
fn nothing() {
    let Some(_netns) = Netns::enter("nothing", &["nft"]) else {
        return;
    };
    expect(&[]);
    nft("table inet filter {
        chain unused { ct state invalid drop; }
        chain input { type filter hook input priority 0; policy drop; ct state established accept; jump more; }
        chain more { ct mark 1 accept; }
        chain output { type filter hook output priority 0; policy drop; ct state new drop; }
        chain forward { type filter hook forward priority 0; policy accept; jump empty; }
        chain empty { }
    }
    table ip nat {
        chain postrouting { type nat hook postrouting priority 100; ip daddr 10.0.0.0/8 accept; }
        chain input { type nat hook input priority 100; snat to 10.0.0.1; }
    }
    table arp filter {
        chain input { type filter hook input priority 0; counter drop; }
    }
    table bridge filter {
        chain forward { type filter hook forward priority 0; counter drop; }
    }
    table inet asleep {
        flags dormant;
        chain forward { type filter hook forward priority 0; ct state invalid drop; }
    }");
    expect(&[]);
}

#[test]
fn stateful() {
    let Some(_netns) = Netns::enter("stateful", &["nft"]) else {
        return;
    };
    let rules = [
        "ct state invalid drop",
        "ct state vmap { established : accept, invalid : drop }",
        "meta mark set ct mark",
        "ct mark set meta mark",
        "ct count over 20 drop",
        "tcp dport 80 ct state new tcp option maxseg size 1 drop",
    ];
    for rule in rules {
        nft(&format!(
            "table inet filter {{
                chain forward {{ type filter hook forward priority 0; {rule}; }}
            }}"
        ));
        expect(&[(
            FindingKind::Stateful,
            Both,
            "nft table inet filter, chain forward",
        )]);
    }
    nft("table ip6 raw {
        chain pre { type filter hook prerouting priority -300; ct zone set 1; }
    }
    table ip mangle {
        chain post { type filter hook postrouting priority -150; ct mark 7 accept; }
    }");
    expect(&[
        (
            FindingKind::Stateful,
            Ipv4,
            "nft table ip mangle, chain post",
        ),
        (FindingKind::Stateful, Ipv6, "nft table ip6 raw, chain pre"),
    ]);
}

#[test]
fn filters() {
    let Some(_netns) = Netns::enter("filters", &["nft"]) else {
        return;
    };
    let rules = [
        "policy drop;",
        "ip daddr 10.2.0.0/16 drop;",
        "counter;",
        "iifname lan0 accept;",
        "meta mark set 7 jump empty;",
        "ip saddr vmap { 10.1.0.1 : jump empty, 10.1.0.2 : drop };",
        "tcp option maxseg exists accept;",
        "ip dscp set cs1;",
    ];
    for rule in rules {
        nft(&format!(
            "table ip filter {{
                chain empty {{ }}
                chain forward {{ type filter hook forward priority 0; {rule} }}
            }}"
        ));
        expect(&[(
            FindingKind::Filter,
            Ipv4,
            "nft table ip filter, chain forward",
        )]);
    }
    // All kinds of a chain, each once.
    nft("table inet every {
        chain forward {
            type filter hook forward priority 0; policy drop;
            ip daddr 10.2.0.1 drop
            ip daddr 10.2.0.2 drop
            tcp flags syn tcp option maxseg size set rt mtu
            ct state invalid drop
        }
        chain pre { type filter hook prerouting priority 0; fib saddr . iif oif missing drop; }
        chain nat { type nat hook postrouting priority 100; ip daddr 10.2.0.1 drop; }
    }");
    let forward = "nft table inet every, chain forward";
    expect(&[
        (FindingKind::Stateful, Both, forward),
        (FindingKind::MssClamp, Both, forward),
        (FindingKind::Filter, Both, forward),
        (FindingKind::Filter, Both, "nft table inet every, chain nat"),
        (FindingKind::Filter, Both, "nft table inet every, chain pre"),
    ]);
}

#[test]
fn chains_that_are_jumped_to() {
    let Some(_netns) = Netns::enter("jumps", &["nft"]) else {
        return;
    };
    nft("table inet filter {
        map dispatch { type ifname : verdict; elements = { wg0 : goto by_named_map }; }
        chain by_jump { ip daddr 10.2.0.1 goto by_goto; }
        chain by_goto { tcp option maxseg size set 1300; }
        chain by_map { ct state invalid drop; }
        chain by_named_map { counter; }
        chain from_input { ct state invalid drop; }
        chain forward {
            type filter hook forward priority 0;
            jump by_jump
            oifname vmap { wg0 : jump by_map, wg1 : jump by_jump }
            iifname vmap @dispatch
        }
        chain input { type filter hook input priority 0; jump from_input; iifname vmap { lan0 : jump from_input }; }
    }");
    expect(&[
        (
            FindingKind::MssClamp,
            Both,
            "nft table inet filter, chain by_goto",
        ),
        (
            FindingKind::Stateful,
            Both,
            "nft table inet filter, chain by_map",
        ),
        (
            FindingKind::Filter,
            Both,
            "nft table inet filter, chain by_named_map",
        ),
    ]);
}

#[test]
fn source_nat_by_device() {
    let Some(_netns) = Netns::enter("source-nat", &["nft"]) else {
        return;
    };
    let cases: [(&str, DeviceSet); 18] = [
        ("masquerade", DeviceSet::Any),
        ("oifname wg0 masquerade", devices(&["wg0"])),
        (
            "oifname abcdefghijklmno masquerade",
            devices(&["abcdefghijklmno"]),
        ),
        ("oifname \"wg*\" masquerade", devices(&["wg*"])),
        ("oifname wg1 snat to 10.0.0.1", devices(&["wg1"])),
        ("oif lo masquerade", devices(&["lo"])),
        (
            "meta mark 7 iifname lan0 oifname wg0 ip saddr 10.0.0.0/8 counter masquerade",
            devices(&["wg0"]),
        ),
        (
            "oifname wg0 masquerade; oifname wg1 masquerade",
            devices(&["wg0", "wg1"]),
        ),
        ("oifname wg0 masquerade; masquerade", DeviceSet::Any),
        ("oifname { wg0, wg1 } masquerade", devices(&["wg0", "wg1"])),
        ("oifname @wan masquerade", devices(&["wan0", "wan1"])),
        ("oifname { \"wg*\", wan0 } masquerade", DeviceSet::Any),
        ("oifname != wg0 masquerade", DeviceSet::Any),
        ("oifname != { wg0, wg1 } masquerade", DeviceSet::Any),
        ("iifname wg0 masquerade", DeviceSet::Any),
        (
            "oifname . ip saddr { wg0 . 10.0.0.1 } masquerade",
            DeviceSet::Any,
        ),
        (
            "iifname . oifname { lan0 . wg0 } masquerade",
            DeviceSet::Any,
        ),
        ("snat to oifname map { wg0 : 10.0.0.1 }", DeviceSet::Any),
    ];
    for (rule, may_leave_by) in cases {
        nft(&format!(
            "table ip nat {{
                set wan {{ type ifname; elements = {{ wan0, wan1 }}; }}
                chain post {{ type nat hook postrouting priority 100; {rule}; }}
            }}"
        ));
        expect(&[(
            source_nat(may_leave_by),
            Ipv4,
            "nft table ip nat, chain post",
        )]);
    }
}

#[test]
fn source_nat_by_device_of_the_jump() {
    let Some(_netns) = Netns::enter("source-nat-jump", &["nft"]) else {
        return;
    };
    nft("table inet nat {
        chain impossible { oifname eth0 masquerade; }
        chain only_wg { masquerade; }
        chain some_wg { oifname { wg1, wan0 } snat ip6 to fd00::1; jump impossible; }
        chain two_ways { masquerade; }
        chain post {
            type nat hook postrouting priority 100
            oifname \"wg*\" jump only_wg
            oifname \"wg*\" goto some_wg
            oifname wg5 jump two_ways
            oifname wg6 jump two_ways
        }
    }");
    let found = |set, place| (source_nat(set), Both, place);
    expect(&[
        found(devices(&["wg*"]), "nft table inet nat, chain only_wg"),
        found(devices(&["wg1"]), "nft table inet nat, chain some_wg"),
        found(
            devices(&["wg5", "wg6"]),
            "nft table inet nat, chain two_ways",
        ),
    ]);
}

#[test]
fn destinations_and_proxies() {
    let Some(_netns) = Netns::enter("destinations", &["nft"]) else {
        return;
    };
    nft("table ip nat {
        chain pre { type nat hook prerouting priority -100; tcp dport 80 dnat to 10.1.0.2; }
        chain out { type nat hook output priority -100; tcp dport 80 dnat to 10.1.0.2; }
    }
    table ip6 nat {
        chain pre { type nat hook prerouting priority -100; tcp dport 80 redirect to :8080; }
    }
    table ip6 proxy {
        chain pre { type filter hook prerouting priority -150; tcp dport 80 tproxy to :8080 accept; }
    }");
    expect(&[
        (
            FindingKind::DestinationNat,
            Ipv4,
            "nft table ip nat, chain pre",
        ),
        (
            FindingKind::DestinationNat,
            Ipv6,
            "nft table ip6 nat, chain pre",
        ),
        (
            FindingKind::TransparentProxy,
            Ipv6,
            "nft table ip6 proxy, chain pre",
        ),
    ]);
}

#[test]
fn chains_of_devices() {
    let Some(_netns) = Netns::enter("devices", &["nft"]) else {
        return;
    };
    add_devices(&["lan0", "lan1"]);
    nft("table netdev t {
        chain in {
            type filter hook ingress devices = { lan0, lan1 } priority 0;
            ip saddr 10.9.0.0/16 drop;
        }
        chain silent { type filter hook ingress device lan0 priority 1; }
    }
    table inet t {
        chain in { type filter hook ingress device lan1 priority 0; counter; }
    }");
    let filter = |names: &[&str]| FindingKind::DeviceFilter {
        devices: devices(names),
        ingress: true,
    };
    expect(&[
        (filter(&["lan1"]), Both, "nft table inet t, chain in"),
        (
            filter(&["lan0", "lan1"]),
            Both,
            "nft table netdev t, chain in",
        ),
    ]);
}

#[test]
fn egress_chains_of_devices() {
    let Some(_netns) = Netns::enter("egress", &["nft"]) else {
        return;
    };
    add_devices(&["wg0"]);
    let chain = "{ type filter hook egress device wg0 priority 0; policy drop; }";
    let chain = format!("add chain netdev t out {chain}");
    if !run("nft", &["add table netdev t"]) || !run("nft", &[&chain]) {
        println!("SKIP egress_chains_of_devices: this kernel has no egress hook (Linux 5.16)");
        return;
    }
    let filter = FindingKind::DeviceFilter {
        devices: devices(&["wg0"]),
        ingress: false,
    };
    expect(&[(filter, Both, "nft table netdev t, chain out")]);
}

fn add_devices(names: &[&str]) {
    for name in names {
        assert!(run("ip", &["tuntap", "add", "dev", name, "mode", "tun"]));
    }
}

/// The kernel answers in many parts.
#[test]
fn ten_thousand_rules() {
    let Some(_netns) = Netns::enter("ten-thousand", &["nft"]) else {
        return;
    };
    let mut rules = String::new();
    for rule in 0..10_000 {
        let _ = writeln!(
            rules,
            "ip daddr 10.{}.{}.1 oifname \"wg{rule}\" counter accept",
            rule / 256,
            rule % 256
        );
    }
    nft(&format!(
        "table inet filter {{
            chain last {{ ct state invalid drop; }}
            chain forward {{ type filter hook forward priority 0; {rules}\njump last; }}
        }}"
    ));
    expect(&[
        (
            FindingKind::Filter,
            Both,
            "nft table inet filter, chain forward",
        ),
        (
            FindingKind::Stateful,
            Both,
            "nft table inet filter, chain last",
        ),
    ]);
}

/// Whoever reads sees rules that were there at one moment.
#[test]
fn rules_that_change_while_they_are_read() {
    let Some(_netns) = Netns::enter("changes", &["nft"]) else {
        return;
    };
    // Few rules change between two questions, many within the answer to one.
    for count in [1, 300] {
        change_while_reading(&"ip daddr 10.2.0.0/16 counter\n".repeat(count));
    }
}

/// Has two rulesets take turns. Chains and rules of both, mixed, are neither.
fn change_while_reading(rules: &str) {
    let first = format!(
        "table inet a {{
            chain one {{ type filter hook forward priority 0; jump two; }}
            chain two {{ {rules} ct state invalid drop; }}
        }}"
    );
    let second = format!(
        "table inet a {{
            chain one {{ {rules} ct state invalid drop; }}
            chain two {{ type filter hook forward priority 0; ip saddr 10.1.0.0/16 drop; }}
        }}"
    );
    let place = "nft table inet a, chain two";
    let of_first = [(FindingKind::Stateful, place), (FindingKind::Filter, place)];
    let of_second = [(FindingKind::Filter, place)];
    nft(&first);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                nft(&second);
                nft(&first);
            }
        });
        let (mut firsts, mut seconds, mut mixed) = (0, 0, None);
        while mixed.is_none() && (firsts < 60 || seconds < 60) {
            let netfilter = Netfilter::read().expect("rules");
            let found: Vec<(FindingKind, &str)> = netfilter
                .findings
                .iter()
                .map(|finding| (finding.kind.clone(), &*finding.place))
                .collect();
            if found == of_first {
                firsts += 1;
            } else if found == of_second {
                seconds += 1;
            } else {
                mixed = Some(netfilter);
            }
        }
        // Before anything that may panic: the scope waits for the other thread.
        stop.store(true, Ordering::Relaxed);
        assert_eq!(mixed, None);
    });
}
