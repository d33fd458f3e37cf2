//! The table of routes that is kept up to date by what the kernel tells is the one that the kernel lists.

use std::time::Duration;

use steer_user::net::{Netlink, Noted, RouteEvents, RouteTable};
use tokio::time::timeout;

use crate::{Netns, block_on};

const TABLES: [u32; 2] = [254, 100];
const STEPS: usize = 400;
/// Others find what docs/routes.md tells as a limit.
const SEED: u64 = 0x5eed_0004;

/// Numbers that look random; the same seed gives the same ones.
struct Random(u64);

impl Random {
    fn from_environment() -> Self {
        let seed = std::env::var("STEER_SEED").ok();
        let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
        println!("STEER_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn hops(&mut self, version: &str) -> String {
        let mut hops = String::new();
        // IPv6 takes next hops without a gateway for routes of their own, and tells of one of them.
        let by_gateway = self.below(4) > 0;
        for device in 0..4 {
            if self.below(2) == 0 {
                let via = match version {
                    "-6" if by_gateway => format!("via fe80::{} ", self.below(2) + 1),
                    _ => String::new(),
                };
                let weight = self.below(3) + 1;
                hops.extend([format!(" nexthop {via}dev d{device} weight {weight}")]);
            }
        }
        hops
    }

    fn leads(&mut self, version: &str) -> (&'static str, String) {
        match self.below(8) {
            0..3 => ("", format!(" dev d{}", self.below(4))),
            3..6 => ("", self.hops(version)),
            6 => (
                "",
                format!(
                    " nhid {}",
                    self.below(4) + if version == "-4" { 1 } else { 5 }
                ),
            ),
            _ => (self.of(&["blackhole ", "unreachable "]), String::new()),
        }
    }

    /// Something that `ip` may do, or refuse.
    fn command(&mut self) -> String {
        let version = self.of(&["-4", "-6"]);
        if self.below(6) == 0 {
            let base = if version == "-4" { 0 } else { 4 };
            let id = base + self.below(3) + 1;
            return match self.below(5) {
                0 => format!("nexthop del id {id}"),
                1 => format!("nexthop del id {}", base + 4),
                2 => format!(
                    "nexthop replace id {} group {}/{}",
                    base + 4,
                    base + 1,
                    base + 2
                ),
                3 => format!(
                    "nexthop replace id {} group {}/{},2/{}",
                    base + 4,
                    base + 1,
                    base + 2,
                    base + 3
                ),
                _ => format!("{version} nexthop replace id {id} dev d{}", self.below(4)),
            };
        }
        let verb = self.of(&[
            "add", "append", "prepend", "replace", "replace", "change", "del", "del",
        ]);
        let prefixes = match version {
            "-4" => ["10.2.0.0/16", "10.2.3.0/24"],
            _ => ["fd00:2::/64", "fd00:2::7/128"],
        };
        let prefix = self.of(&prefixes);
        let metric = self.of(&["", "", " metric 10", " metric 20"]);
        let table = self.of(&["", "", "", " table 100", " table 101"]);
        let protocol = self.of(&["", "", " proto bird"]);
        if verb == "del" && self.below(2) == 0 {
            return format!("{version} route del {prefix}{metric}{table}");
        }
        let (kind, leads) = self.leads(version);
        format!("{version} route {verb} {kind}{prefix}{metric}{table}{protocol}{leads}")
    }
}

/// What a table says.
fn said(table: &RouteTable) -> Vec<String> {
    let mut lines = Vec::new();
    for (prefix, routes) in table.iter() {
        lines.extend(
            routes
                .iter()
                .map(|route| format!("{prefix}: {route:?} → {:?}", table.hops(route))),
        );
    }
    lines
}

/// Notes all that the kernel told; whether that was enough.
async fn note_all(
    events: &mut RouteEvents,
    table: &mut RouteTable,
    told: &mut Vec<String>,
) -> bool {
    let mut is_sure = true;
    // What a command did is told before it ends; only the task that reads has to run.
    while let Ok(Some(notice)) = timeout(Duration::from_millis(5), events.next()).await {
        told.push(format!("{notice:?}"));
        is_sure &= table.note(notice) != Noted::Unsure;
    }
    is_sure
}

#[test]
fn what_is_told_is_what_is_listed() {
    let Some(netns) = Netns::new("route-table") else {
        return;
    };
    for pair in 0..2 {
        let (one, other) = (2 * pair, 2 * pair + 1);
        netns.ip(&format!("link add d{one} type veth peer name d{other}"));
    }
    for device in 0..4 {
        netns.ip(&format!("link set d{device} up"));
    }
    netns.enter();
    let mut random = Random::from_environment();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let mut events = RouteEvents::subscribe().expect("subscribe");
        let mut table = netlink.route_table(&TABLES).await.expect("list");
        let (mut done, mut unsure) = (0, 0);
        for _ in 0..STEPS {
            let command = random.command();
            let words: Vec<_> = command.split_whitespace().collect();
            let output = std::process::Command::new("ip")
                .args(&words)
                .output()
                .expect("ip");
            let is_done = output.status.success();
            done += usize::from(is_done);
            let (before, mut notices) = (said(&table), Vec::new());
            let is_sure = note_all(&mut events, &mut table, &mut notices).await;
            let anew = netlink.route_table(&TABLES).await.expect("list");
            if is_sure {
                let (told, listed) = (said(&table), said(&anew));
                let only = |one: &[String], other: &[String]| {
                    let only = one.iter().filter(|line| !other.contains(line));
                    only.map(|line| ["  ", line, "\n"].concat())
                        .collect::<String>()
                };
                assert!(
                    told == listed,
                    "{command}\nbefore:\n  {}\nmessages:\n  {}\nnot listed:\n{}not told:\n{}",
                    before.join("\n  "),
                    notices.join("\n  "),
                    only(&told, &listed),
                    only(&listed, &told),
                );
            } else {
                unsure += 1;
            }
            table.renew(anew);
        }
        println!(
            "{done} of {STEPS} commands did something; {unsure} times the table was listed anew"
        );
        assert!(done > STEPS / 4, "only {done} commands did something");
        assert!(unsure < done / 2, "{unsure} of {done}");
    });
}
