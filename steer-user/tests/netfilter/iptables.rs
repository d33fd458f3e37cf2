//! Rules of iptables, in its two kinds.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use steer_user::net::PacketFamily::{Ipv4, Ipv6};
use steer_user::net::{DeviceSet, FindingKind};

use crate::{Netns, devices, expect, run, source_nat};

/// iptables in one of its two kinds.
struct Iptables {
    kind: &'static str,
    /// The places of a table and chain, of iptables and ip6tables.
    place: fn(version: &str, table: &str, chain: &str) -> String,
}

const IPTABLES_LEGACY: Iptables = Iptables {
    kind: "legacy",
    place: |version, table, chain| format!("ip{version}tables {table} {chain}"),
};

const IPTABLES_NFT: Iptables = Iptables {
    kind: "nft",
    place: |version, table, chain| format!("nft table ip{version} {table}, chain {chain}"),
};

impl Iptables {
    fn netns(&self, test: &str) -> Option<Netns> {
        let name = format!("{test}-{}", self.kind);
        let netns = Netns::enter(&name, &[&self.program(""), &self.program("6")])?;
        if self.kind == "legacy" && !run("iptables-legacy", &["-S"]) {
            println!("SKIP {name}: this kernel has no older iptables tables");
            return None;
        }
        Some(netns)
    }

    fn program(&self, version: &str) -> String {
        format!("ip{version}tables-{}", self.kind)
    }

    /// Runs a command of iptables for IPv4 or ("6") IPv6.
    fn run(&self, version: &str, arguments: &str) {
        let program = self.program(version);
        let all: Vec<&str> = ["-w"].into_iter().chain(arguments.split(' ')).collect();
        assert!(run(&program, &all), "{program} {arguments}");
    }

    /// Empties the tables, adds one rule and tells what is found of it.
    fn expect_of(&self, rule: &str, table: &str, chain: &str, kinds: &[FindingKind]) {
        for version in ["", "6"] {
            self.run(version, &format!("-t {table} -F"));
            self.run(version, &format!("-t {table} {rule}"));
        }
        let ipv4 = (self.place)("", table, chain);
        let ipv6 = (self.place)("6", table, chain);
        let of_ipv4 = kinds.iter().map(|kind| (kind.clone(), Ipv4, &*ipv4));
        let of_ipv6 = kinds.iter().map(|kind| (kind.clone(), Ipv6, &*ipv6));
        expect(&of_ipv4.chain(of_ipv6).collect::<Vec<_>>());
        for version in ["", "6"] {
            self.run(version, &format!("-t {table} -F"));
        }
    }

    fn one_rule(&self) {
        let Some(_netns) = self.netns("one-rule") else {
            return;
        };
        let stateful = [
            "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
            "-A FORWARD -p tcp -m state --state NEW -j REJECT",
            "-A FORWARD -m connmark --mark 7 -j ACCEPT",
        ];
        for rule in stateful {
            self.expect_of(rule, "filter", "FORWARD", &[FindingKind::Stateful]);
        }
        let filters = [
            "-A FORWARD -j DROP",
            "-A FORWARD -i lan0",
            "-A FORWARD -p tcp --dport 80 -j REJECT",
            "-A FORWARD -j LOG",
        ];
        for rule in filters {
            self.expect_of(rule, "filter", "FORWARD", &[FindingKind::Filter]);
        }
        for rule in [
            "-A INPUT -m conntrack --ctstate INVALID -j DROP",
            "-P INPUT DROP",
            "-P FORWARD ACCEPT",
        ] {
            self.expect_of(rule, "filter", "none", &[]);
        }
        let mangle = [
            (
                "-p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
                FindingKind::MssClamp,
            ),
            ("-j CONNMARK --save-mark", FindingKind::Stateful),
            ("-j MARK --set-mark 7", FindingKind::Filter),
        ];
        for (rule, kind) in mangle {
            self.expect_of(
                &format!("-A POSTROUTING {rule}"),
                "mangle",
                "POSTROUTING",
                &[kind],
            );
        }
        self.expect_of(
            "-A PREROUTING -p tcp -j TPROXY --on-port 80",
            "mangle",
            "PREROUTING",
            &[FindingKind::TransparentProxy],
        );
        self.expect_of(
            "-A PREROUTING -j CT --zone 1",
            "raw",
            "PREROUTING",
            &[FindingKind::Stateful],
        );
        let post = [
            ("-j MASQUERADE", DeviceSet::Any),
            ("-o wg0 -j MASQUERADE", devices(&["wg0"])),
            (
                "-o abcdefghijklmno -j MASQUERADE",
                devices(&["abcdefghijklmno"]),
            ),
            ("-o wg+ -m mark --mark 7 -j MASQUERADE", devices(&["wg*"])),
            ("! -o wg0 -j MASQUERADE", DeviceSet::Any),
        ];
        for (rule, may_leave_by) in post {
            self.expect_of(
                &format!("-A POSTROUTING {rule}"),
                "nat",
                "POSTROUTING",
                &[source_nat(may_leave_by)],
            );
        }
        self.expect_of("-A POSTROUTING -p udp -j ACCEPT", "nat", "none", &[]);
        self.expect_of(
            "-A PREROUTING -p tcp --dport 80 -j REDIRECT",
            "nat",
            "PREROUTING",
            &[FindingKind::DestinationNat],
        );
    }

    fn addresses_and_chains(&self) {
        let Some(_netns) = self.netns("chains") else {
            return;
        };
        self.run("", "-P FORWARD DROP");
        self.run("", "-N first");
        self.run("", "-N second");
        self.run("", "-N for_input");
        self.run("", "-A FORWARD -o wg0 -j first");
        self.run("", "-A first -p udp -g second");
        self.run("", "-A second -m conntrack --ctstate NEW -j RETURN");
        self.run("", "-A INPUT -j for_input");
        self.run("", "-A for_input -m conntrack --ctstate NEW -j DROP");
        self.run("6", "-t nat -N wan");
        self.run("6", "-t nat -A POSTROUTING -o wg+ -j wan");
        self.run("6", "-t nat -A wan -o wg1 -j SNAT --to-source fd00::1");
        self.run("6", "-t nat -A wan -o wg2 -j NETMAP --to fd00:1::/64");
        self.run(
            "6",
            "-t nat -A PREROUTING -i wg2 -j NETMAP --to fd00:2::/64",
        );
        self.run(
            "6",
            "-t nat -A PREROUTING -i wg2 -j DNAT --to-destination fd00::2",
        );
        let place = |version, table, chain| (self.place)(version, table, chain);
        expect(&[
            (FindingKind::Filter, Ipv4, &place("", "filter", "FORWARD")),
            (FindingKind::Stateful, Ipv4, &place("", "filter", "second")),
            (
                FindingKind::DestinationNat,
                Ipv6,
                &place("6", "nat", "PREROUTING"),
            ),
            (
                source_nat(devices(&["wg1", "wg2"])),
                Ipv6,
                &place("6", "nat", "wan"),
            ),
        ]);
    }
}

#[test]
fn iptables_legacy_rules() {
    IPTABLES_LEGACY.one_rule();
}

#[test]
fn iptables_nft_rules() {
    IPTABLES_NFT.one_rule();
}

#[test]
fn iptables_legacy_chains() {
    IPTABLES_LEGACY.addresses_and_chains();
}

#[test]
fn iptables_nft_chains() {
    IPTABLES_NFT.addresses_and_chains();
}

/// Asking an older table for its rules makes it; reading must not.
#[test]
fn reading_makes_no_tables() {
    let Some(_netns) = IPTABLES_LEGACY.netns("no-tables") else {
        return;
    };
    let names = || {
        std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").expect("names of tables")
    };
    let before = names();
    assert!(before.contains("filter"), "{before}");
    expect(&[]);
    assert_eq!(names(), before);
}

#[test]
fn ten_thousand_rules_of_older_tables() {
    let Some(_netns) = IPTABLES_LEGACY.netns("ten-thousand") else {
        return;
    };
    let mut rules = String::from("*filter\n");
    for rule in 0..10_000 {
        let (high, low) = (rule / 256, rule % 256);
        let _ = writeln!(rules, "-A FORWARD -d 10.{high}.{low}.1 -j ACCEPT");
    }
    rules.push_str("-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n");
    let mut restore = Command::new("iptables-legacy-restore")
        .stdin(Stdio::piped())
        .spawn()
        .expect("iptables-legacy-restore");
    let mut input = restore.stdin.take().expect("stdin");
    input.write_all(rules.as_bytes()).expect("it reads");
    drop(input);
    assert!(restore.wait().expect("it ends").success());
    expect(&[
        (FindingKind::Stateful, Ipv4, "iptables filter FORWARD"),
        (FindingKind::Filter, Ipv4, "iptables filter FORWARD"),
    ]);
}
