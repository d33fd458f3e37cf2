//! Random commands of `ip` that change routes.

use std::time::SystemTime;

/// Numbers that look random; the same seed gives the same ones.
pub(super) struct Random(u64);

impl Random {
    /// From `STEER_SEED`, or a new seed, which is printed.
    pub(super) fn from_environment() -> Self {
        let now = || {
            let since = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
            u64::from(since.subsec_nanos())
        };
        let seed = std::env::var("STEER_SEED").ok();
        let seed = seed.map_or_else(now, |seed| seed.parse().expect("STEER_SEED is a number"));
        println!("STEER_SEED={seed}");
        // Small seeds are alike, and 0 stays 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// `via GATEWAY dev DEVICE`
    fn gateway(&mut self, version: &str, device: usize) -> String {
        let last = self.below(2) + 2;
        match version {
            "-4" => format!(" via 10.9.{device}.{last} dev d{device}"),
            _ => format!(" via fe80::{last} dev d{device}"),
        }
    }

    /// Next hops of one kind, and their weights, as an IPv6 route of gateways and devices alone is told in part.
    fn hops(&mut self, version: &str, is_by_gateway: bool) -> Vec<String> {
        let mut hops = Vec::new();
        for device in 0..4 {
            if self.below(2) == 0 {
                let hop = if is_by_gateway {
                    self.gateway(version, device)
                } else {
                    format!(" dev d{device}")
                };
                hops.push(format!("{hop} weight {}", self.below(3) + 1));
            }
        }
        hops
    }

    fn object(&mut self, version: &str) -> String {
        let base = if version == "-4" { 1 } else { 5 };
        format!(" nhid {}", self.below(4) + base)
    }

    /// A change of next-hop objects: 1 to 3 of IPv4 and their group 4, 5 to 7 of IPv6 and their group 8.
    fn object_command(&mut self) -> String {
        let (version, base) = [("-4", 0), ("-6", 4)][self.below(2)];
        let id = base + self.below(3) + 1;
        let (group, one, other, third) = (base + 4, base + 1, base + 2, base + 3);
        match self.below(6) {
            0 => format!("nexthop del id {id}"),
            1 => format!("nexthop del id {group}"),
            2 => format!("nexthop replace id {group} group {one}/{other}"),
            3 => format!("nexthop replace id {group} group {one}/{other},2/{third}"),
            4 => format!("{version} nexthop replace id {id} dev d{}", self.below(4)),
            _ => {
                let device = self.below(4);
                let gateway = self.gateway(version, device);
                format!("{version} nexthop replace id {id}{gateway}")
            }
        }
    }

    /// Something that `ip` may do, or refuse.
    pub(super) fn anything(&mut self) -> String {
        if self.below(6) == 0 {
            return self.object_command();
        }
        let version = self.of(&["-4", "-6"]);
        let verb = self.of(&[
            "add", "append", "prepend", "replace", "replace", "change", "del", "del",
        ]);
        let prefix = match version {
            "-4" => self.of(&["10.2.0.0/16", "10.2.3.0/24", "10.2.4.0/24"]),
            _ => self.of(&["fd00:2::/64", "fd00:2::7/128", "fd00:3::/64"]),
        };
        let metric = self.of(&["", "", " metric 10", " metric 20"]);
        let table = self.of(&["", "", "", " table 100", " table 101"]);
        if verb == "del" && self.below(2) == 0 {
            return format!("{version} route del {prefix}{metric}{table}");
        }
        let device = self.below(4);
        let (kind, leads) = match self.below(10) {
            0..2 => ("", format!(" dev d{device}")),
            2..5 => ("", self.gateway(version, device)),
            5..8 => {
                let is_by_gateway = self.below(4) > 0;
                let hops = self.hops(version, is_by_gateway);
                ("", list(&hops))
            }
            8 => ("", self.object(version)),
            _ => (self.of(&["blackhole ", "unreachable "]), String::new()),
        };
        let protocol = self.of(&["", "", " proto bird"]);
        // What is not looked at.
        let also = match version {
            "-4" => self.of(&[
                "",
                "",
                "",
                " tos 16",
                " src 10.9.0.1",
                " scope host",
                " mtu 1300",
            ]),
            _ => self.of(&[
                "",
                "",
                "",
                " src fd00:9::1",
                " mtu 1300",
                " from fd00:1::/64",
            ]),
        };
        format!("{version} route {verb} {kind}{prefix}{metric}{table}{protocol}{also}{leads}")
    }

    /// What a routing daemon does to bring one prefix to its next hops; `ip` may refuse some of it.
    pub(super) fn of_a_daemon(&mut self) -> Vec<String> {
        let version = self.of(&["-4", "-6"]);
        let prefix = match version {
            "-4" => self.of(&["10.2.0.0/16", "10.2.3.0/24"]),
            _ => self.of(&["fd00:2::/64", "fd00:3::/64"]),
        };
        let daemon = self.of(&["bird", "frr", "frr without objects"]);
        let route = match daemon {
            "bird" => format!("{prefix} proto bird metric 32"),
            "frr" => format!("{prefix} proto zebra metric 20"),
            _ => format!("{prefix} proto zebra metric 110"),
        };
        if self.below(4) == 0 {
            return vec![format!("{version} route del {route}")];
        }
        if daemon == "frr" {
            let object = self.object(version);
            let change = self.object_command();
            return vec![change, format!("{version} route replace {route}{object}")];
        }
        let hops = self.hops(version, true);
        match (daemon, version, hops.as_slice()) {
            (_, _, []) => vec![format!("{version} route del {route}")],
            // BIRD replaces no IPv6 routes, and makes next hops one by one.
            ("bird", "-6", hops) => {
                let mut commands = vec![format!("-6 route del {route}")];
                for (index, hop) in hops.iter().enumerate() {
                    let verb = if index == 0 { "add" } else { "append" };
                    let hop = hop.split(" weight").next().unwrap_or_default();
                    commands.push(format!("-6 route {verb} {route}{hop}"));
                }
                commands
            }
            (_, _, hops) => {
                let hops = list(hops);
                vec![format!("{version} route replace {route}{hops}")]
            }
        }
    }
}

fn list(hops: &[String]) -> String {
    hops.iter()
        .flat_map(|hop| [" nexthop", hop.as_str()])
        .collect()
}
