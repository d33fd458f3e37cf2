//! Who else uses the bits of the packet mark that steer wants for itself. Pure.

use std::fmt;

use super::{Devices, OwnRouting, Rule};

/// Somebody who uses bits of the mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkUser {
    /// A policy rule looks at them.
    Rule(Rule),
    /// A WireGuard device sets them on the encrypted packets that it sends.
    Device {
        /// Its name.
        name: String,
        /// The mark that it sets.
        mark: u32,
    },
}

/// Fits before "uses these bits".
impl fmt::Display for MarkUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "{} rule '{rule}'", rule.family),
            Self::Device { name, mark } => write!(f, "FwMark {mark:#x} of device {name}"),
        }
    }
}

/// Everybody but this steer who uses bits of `mask`.
pub fn mark_users(mask: u32, own: &OwnRouting, rules: &[Rule], devices: &Devices) -> Vec<MarkUser> {
    let rules = rules
        .iter()
        .filter(|rule| !own.has_rule(rule) && looks_at(rule, mask))
        .map(|rule| MarkUser::Rule(rule.clone()));
    let devices = devices.iter().filter_map(|device| {
        let mark = device.wireguard.as_ref()?.fwmark?;
        (mark & mask != 0).then(|| MarkUser::Device {
            name: device.name.clone(),
            mark,
        })
    });
    rules.chain(devices).collect()
}

/// Whether a rule's answer depends on bits of `mask`.
///
/// A rule without a mask of its own compares the whole mark, because that is
/// what `ip rule` makes of `fwmark 51820`; nobody chose steer's bits. While its
/// value has none of them, it is about packets that steer does not mark.
fn looks_at(rule: &Rule, mask: u32) -> bool {
    let compares_all = rule.mask == u32::MAX && rule.mark & mask == 0;
    rule.mask & mask != 0 && !compares_all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Device, Family, MarkRule, ROUTE_PROTOCOL, RuleAction, WireGuard};

    const MASK: u32 = 0xFF00_0000;

    fn own() -> OwnRouting {
        OwnRouting {
            prefs: 5_210..=5_210,
            tables: 572_300..=572_315,
        }
    }

    fn rule(mark: u32, mask: u32) -> Rule {
        Rule {
            family: Family::V4,
            pref: 100,
            mark,
            mask,
            action: RuleAction::Lookup(7),
            inverted: false,
            more: false,
            protocol: 3,
        }
    }

    fn is_used(rule: Rule) -> bool {
        !mark_users(MASK, &own(), &[rule], &Devices::default()).is_empty()
    }

    #[test]
    fn rules_of_others() {
        for (mark, mask, expected) in [
            // No mark at all, as the rules for local, main and default.
            (0, 0, false),
            (0x0000_0005, 0x0000_00FF, false),
            (0x00FF_0000, 0x00FF_FFFF, false),
            (0x0100_0000, 0xFF00_0000, true),
            // One bit, even one that no tunnel has yet.
            (0x8000_0000, 0x8000_0000, true),
            (0x0000_0000, 0xFF00_0000, true),
            (0x0000_0005, 0x0100_00FF, true),
            // Whole marks.
            (0x0000_CA6C, u32::MAX, false),
            (0x0100_CA6C, u32::MAX, true),
            (0x0000_0000, u32::MAX, false),
        ] {
            assert_eq!(is_used(rule(mark, mask)), expected, "{mark:#x}/{mask:#x}");
        }
        let quick = Rule {
            inverted: true,
            ..rule(0xCA6C, u32::MAX)
        };
        assert!(!is_used(quick), "what wg-quick makes");
    }

    #[test]
    fn ours_and_those_of_another_steer() {
        let ours = MarkRule {
            family: Family::V6,
            pref: 5_210,
            mark: 0x0100_0000,
            mask: MASK,
            table: 572_300,
        };
        assert!(!is_used(Rule::from(&ours)));
        let anothers = MarkRule {
            table: 572_400,
            ..ours.clone()
        };
        assert!(is_used(Rule::from(&anothers)));
        let copied = Rule {
            protocol: ROUTE_PROTOCOL + 1,
            ..Rule::from(&ours)
        };
        assert!(is_used(copied));
    }

    #[test]
    fn marks_of_wireguard() {
        let device = |name: &str, fwmark| Device {
            name: name.into(),
            wireguard: Some(WireGuard {
                fwmark,
                ..WireGuard::default()
            }),
            ..Device::default()
        };
        let devices = Devices::new(vec![
            Device::default(),
            device("wg0", None),
            device("wg1", Some(0xCA6C)),
            device("wg2", Some(0x0200_CA6C)),
        ]);
        let rules = [rule(0x0100_0000, MASK)];
        let users: Vec<String> = mark_users(MASK, &own(), &rules, &devices)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            users,
            [
                "IPv4 rule 'pref 100 fwmark 0x1000000/0xff000000 lookup 7'",
                "FwMark 0x200ca6c of device wg2"
            ]
        );
    }
}
