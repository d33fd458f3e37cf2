//! What of a group follows the kernel's routes.

use std::fmt::Write;

use serde::Serialize;

use super::Colour;
use super::table::{Tone, paint};

/// A group that follows routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoutesReport {
    /// How many prefixes are steered because of routes.
    pub prefixes: usize,
    /// How many prefixes inside those are left to the kernel, because their routes lead elsewhere.
    pub holes: usize,
    /// The choices of tunnels that routes make, those of the most prefixes first.
    pub sets: Vec<RouteSetReport>,
}

/// Tunnels that routes lead through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteSetReport {
    /// Number of the group that was made for it; the group's own when it is all tunnels alike.
    pub group: u8,
    /// The tunnels, in the order of their ids.
    pub tunnels: Vec<RouteHopReport>,
    /// How many prefixes have it.
    pub prefixes: usize,
}

/// A tunnel that a route leads through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteHopReport {
    /// Tunnel.
    pub name: String,
    /// Weight of the next hop; the tunnel's own weight is multiplied by it.
    pub weight: u32,
}

impl RoutesReport {
    /// One line, and one for each set; those of which no tunnel takes new flows stand out.
    pub(super) fn render(&self, takes_new_flows: impl Fn(&str) -> bool, colour: Colour) -> String {
        let mut out = format!(
            "  follows routes: {}",
            count(self.prefixes, "prefix", "prefixes")
        );
        if self.holes > 0 {
            let _ = write!(out, "; {} inside them left to the kernel", self.holes);
        }
        out.push('\n');
        for set in &self.sets {
            let hops: Vec<String> = set
                .tunnels
                .iter()
                .map(|hop| format!("{}={}", hop.name, hop.weight))
                .collect();
            let prefixes = count(set.prefixes, "prefix", "prefixes");
            let line = format!("{prefixes} over {}", hops.join(" "));
            let line = if set.tunnels.iter().any(|hop| takes_new_flows(&hop.name)) {
                line
            } else {
                let warning = format!("{line}: none takes new flows, they are left to the kernel");
                paint(&warning, Tone::Bad, colour)
            };
            let _ = writeln!(out, "    {line}");
        }
        out
    }
}

fn count(number: usize, one: &str, several: &str) -> String {
    let what = if number == 1 { one } else { several };
    format!("{number} {what}")
}

/// The first few of many.
pub fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut shown = names[..names.len().min(SHOWN)].to_vec();
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_holes() {
        let hop = |name: &str, weight| RouteHopReport {
            name: name.into(),
            weight,
        };
        let report = RoutesReport {
            prefixes: 12,
            holes: 1,
            sets: vec![
                RouteSetReport {
                    group: 0,
                    tunnels: vec![hop("wg0", 1), hop("wg1", 1)],
                    prefixes: 11,
                },
                RouteSetReport {
                    group: 63,
                    tunnels: vec![hop("wg0", 3)],
                    prefixes: 1,
                },
            ],
        };
        insta::assert_snapshot!(report.render(|_| true, Colour::Off), @r"
          follows routes: 12 prefixes; 1 inside them left to the kernel
            11 prefixes over wg0=1 wg1=1
            1 prefix over wg0=3
        ");
        insta::assert_snapshot!(report.render(|name| name != "wg0", Colour::Off), @r"
          follows routes: 12 prefixes; 1 inside them left to the kernel
            11 prefixes over wg0=1 wg1=1
            1 prefix over wg0=3: none takes new flows, they are left to the kernel
        ");
    }

    #[test]
    fn long_lists() {
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(shortened(&names[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(shortened(&names), "0, 1, 2, 3, 4, 5, 6, 7, 2 more");
    }
}
