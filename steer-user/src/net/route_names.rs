//! Names of routing tables and of route protocols, as `ip route` knows them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where iproute2 keeps names; an earlier place goes before a later one.
const PLACES: [&str; 3] = ["/etc/iproute2", "/usr/share/iproute2", "/usr/lib/iproute2"];
/// Names that need no file (`linux/rtnetlink.h`).
const TABLES: [(&str, u32); 3] = [("default", 253), ("main", 254), ("local", 255)];
const PROTOCOLS: [(&str, u32); 15] = [
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("ra", 9),
    ("zebra", 11),
    ("bird", 12),
    ("dhcp", 16),
    ("keepalived", 18),
    ("babel", 42),
    ("bgp", 186),
    ("isis", 187),
    ("ospf", 188),
    ("rip", 189),
    ("eigrp", 192),
];

/// Names and their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteNames {
    /// Of routing tables.
    pub tables: Vec<(String, u32)>,
    /// Of those who make routes.
    pub protocols: Vec<(String, u32)>,
}

impl RouteNames {
    /// What this machine has. A file that is missing names nothing.
    pub fn read() -> Self {
        Self {
            tables: names("rt_tables", &TABLES),
            protocols: names("rt_protos", &PROTOCOLS),
        }
    }
}

fn names(file: &str, known: &[(&str, u32)]) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for place in PLACES {
        let path = Path::new(place).join(file);
        let dir = fs::read_dir(path.with_extension("d")).into_iter().flatten();
        let mut paths: Vec<PathBuf> = dir
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "conf")
            })
            .collect();
        paths.sort();
        paths.insert(0, path);
        for path in paths {
            found.extend(parse(&fs::read_to_string(path).unwrap_or_default()));
        }
    }
    found.extend(
        known
            .iter()
            .map(|(name, number)| ((*name).to_owned(), *number)),
    );
    let mut seen = Vec::new();
    found.retain(|(name, _)| {
        let is_new = !seen.contains(name);
        seen.push(name.clone());
        is_new
    });
    found
}

/// Lines of a number, decimal or 0x…, and a name.
fn parse(text: &str) -> Vec<(String, u32)> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (number, name) = (words.next()?, words.next()?);
        let number = match number.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        Some((name.to_owned(), number.ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        let text = "#\n# reserved values\n#\n254\tmain\n0x64 site # ours\nx y\n12\n";
        assert_eq!(parse(text), [("main".into(), 254), ("site".into(), 100)]);
        assert_eq!(names("no-such-file", &TABLES).len(), TABLES.len());
    }
}
