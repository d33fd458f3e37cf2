//! A policy rule (`ip rule`): its parts, its words, its netlink message.

use std::fmt;

use netlink_packet_core::Nla;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{
    RuleAction as Action, RuleAttribute, RuleFlags, RuleHeader, RuleMessage,
};

use super::{Family, OwnRouting, ROUTE_PROTOCOL};

/// A policy rule, anybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its family.
    pub family: Family,
    /// Its preference; lower comes first.
    pub pref: u32,
    /// Packets whose mark, under `mask`, is this one; 0 under 0 is any packet.
    pub mark: u32,
    /// The bits of the mark that it looks at.
    pub mask: u32,
    /// What happens to these packets.
    pub action: RuleAction,
    /// It is for all packets but these.
    pub inverted: bool,
    /// It has more to it than these fields say: addresses, devices, ports, …
    pub more: bool,
    /// Who made it (`RTPROT_…`).
    pub protocol: u8,
}

/// What a policy rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Looks up this table.
    Lookup(u32),
    /// Looks up the table of the packet's VRF.
    LookupVrf,
    /// Goes on with the rules from this preference.
    Goto(u32),
    /// Goes on with the next rule.
    Nop,
    /// Drops.
    Blackhole,
    /// Drops, and answers that the destination is unreachable.
    Unreachable,
    /// Drops, and answers that this is forbidden.
    Prohibit,
    /// Something newer than this code.
    Other(u8),
}

/// A rule of steer: packets of this mark look up this table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// Its family.
    pub family: Family,
    /// Its preference.
    pub pref: u32,
    /// The mark; not 0, and within `mask`.
    pub mark: u32,
    /// The bits of the mark that it looks at.
    pub mask: u32,
    /// The table.
    pub table: u32,
}

impl From<&MarkRule> for Rule {
    fn from(rule: &MarkRule) -> Self {
        Self {
            family: rule.family,
            pref: rule.pref,
            mark: rule.mark,
            mask: rule.mask,
            action: RuleAction::Lookup(rule.table),
            inverted: false,
            more: false,
            protocol: ROUTE_PROTOCOL,
        }
    }
}

/// As `ip rule` takes it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pref {}", self.pref)?;
        if self.inverted {
            f.write_str(" not")?;
        }
        match (self.mark, self.mask) {
            (0, 0) => {}
            (mark, u32::MAX) => write!(f, " fwmark {mark:#x}")?,
            (mark, mask) => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
        }
        match self.action {
            RuleAction::Lookup(table) => write!(f, " lookup {table}"),
            RuleAction::LookupVrf => f.write_str(" l3mdev"),
            RuleAction::Goto(pref) => write!(f, " goto {pref}"),
            RuleAction::Nop => f.write_str(" nop"),
            RuleAction::Blackhole => f.write_str(" blackhole"),
            RuleAction::Unreachable => f.write_str(" unreachable"),
            RuleAction::Prohibit => f.write_str(" prohibit"),
            RuleAction::Other(number) => write!(f, " type {number}"),
        }
    }
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Rule::from(self))
    }
}

impl OwnRouting {
    /// Whether this rule is this steer's.
    pub fn has_rule(&self, rule: &Rule) -> bool {
        let RuleAction::Lookup(table) = rule.action else {
            return false;
        };
        rule.protocol == ROUTE_PROTOCOL
            && self.prefs.contains(&rule.pref)
            && self.tables.contains(&table)
    }
}

impl MarkRule {
    pub(super) fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header = RuleHeader {
            family: self.family.number(),
            action: Action::ToTable,
            ..RuleHeader::default()
        };
        message.attributes = vec![
            RuleAttribute::Priority(self.pref),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(self.mask),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)),
        ];
        message
    }
}

impl Rule {
    pub(super) fn of(family: Family, message: &RuleMessage) -> Rule {
        /// Alignment, nothing else.
        const FRA_PAD: u16 = 18;
        /// "No limit", which the kernel writes out.
        const NONE: u32 = u32::MAX;
        let header = &message.header;
        let mut rule = Rule {
            family,
            pref: 0,
            mark: 0,
            mask: 0,
            action: RuleAction::Nop,
            inverted: header.flags.contains(RuleFlags::Invert),
            more: header.dst_len != 0 || header.src_len != 0 || header.tos != 0,
            protocol: 0,
        };
        let (mut table, mut target) = (u32::from(header.table), 0);
        let mut is_vrf = false;
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(pref) => rule.pref = *pref,
                RuleAttribute::FwMark(mark) => rule.mark = *mark,
                RuleAttribute::FwMask(mask) => rule.mask = *mask,
                RuleAttribute::Table(number) => table = *number,
                RuleAttribute::Goto(pref) => target = *pref,
                RuleAttribute::L3MDev(value) => is_vrf = *value,
                RuleAttribute::Protocol(protocol) => rule.protocol = (*protocol).into(),
                // An accounting tag of the routes found, and no condition.
                RuleAttribute::Realm(_)
                | RuleAttribute::SuppressIfGroup(NONE)
                | RuleAttribute::SuppressPrefixLen(NONE) => {}
                RuleAttribute::Other(other) if other.kind() == FRA_PAD => {}
                _ => rule.more = true,
            }
        }
        rule.action = match header.action {
            Action::ToTable if is_vrf => RuleAction::LookupVrf,
            Action::ToTable => RuleAction::Lookup(table),
            Action::Goto => RuleAction::Goto(target),
            Action::Nop => RuleAction::Nop,
            Action::Blackhole => RuleAction::Blackhole,
            Action::Unreachable => RuleAction::Unreachable,
            Action::Prohibit => RuleAction::Prohibit,
            other => RuleAction::Other(other.into()),
        };
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnRouting {
        OwnRouting {
            prefs: 5_210..=5_210,
            tables: 572_300..=572_315,
        }
    }

    fn wanted(tunnel: u32) -> MarkRule {
        MarkRule {
            family: Family::V4,
            pref: 5_210,
            mark: (tunnel + 1) << 24,
            mask: 0xFF00_0000,
            table: 572_300 + tunnel,
        }
    }

    #[test]
    fn words() {
        let rule = Rule::from(&wanted(0));
        assert_eq!(
            rule.to_string(),
            "pref 5210 fwmark 0x1000000/0xff000000 lookup 572300"
        );
        let quick = Rule {
            pref: 100,
            mark: 0xCA6C,
            mask: u32::MAX,
            inverted: true,
            action: RuleAction::Lookup(7),
            ..rule.clone()
        };
        assert_eq!(quick.to_string(), "pref 100 not fwmark 0xca6c lookup 7");
        let plain = Rule {
            mark: 0,
            mask: 0,
            action: RuleAction::Prohibit,
            ..rule
        };
        assert_eq!(plain.to_string(), "pref 5210 prohibit");
    }

    #[test]
    fn whose() {
        let ours = Rule::from(&wanted(15));
        assert!(own().has_rule(&ours));
        let others = [
            Rule {
                protocol: 4,
                ..ours.clone()
            },
            Rule {
                pref: 5_211,
                ..ours.clone()
            },
            Rule {
                action: RuleAction::Lookup(572_316),
                ..ours.clone()
            },
            Rule {
                action: RuleAction::Goto(572_300),
                ..ours
            },
        ];
        for other in others {
            assert!(!own().has_rule(&other), "{other:?}");
        }
    }
}
