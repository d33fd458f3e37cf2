//! The marks of packets: whose bits they are, and the rules and tables that act on them.

use std::fmt;
use std::str::FromStr;

use steer_common::abi::{HookMode, Settings, TUNNELS_MAX, TunnelId};

use super::{Existing, GroupPlan, Machine, PlanError, Request, ValueError, unequal_mtus};
use crate::net::{self, Devices, Family, MarkRule, MarkUser, OwnRouting, Rule, RuleAction};

/// Preference of the rules of the first slot.
const PREF: u32 = 5_210;
/// First table of the first slot.
const TABLE: u32 = 572_300;
/// Tables of one slot.
const TABLES: u32 = 256;
const _: () = assert!(TABLES as usize >= TUNNELS_MAX);
/// How many steers there can be in one network namespace.
const SLOTS: u32 = 64;

/// Bits of the packet mark, next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkMask(u32);

impl MarkMask {
    /// The one without `--mark-mask`.
    pub const DEFAULT: Self = Self(0xff00_0000);

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The mask of these bits, if they are next to each other.
    pub fn new(bits: u32) -> Option<Self> {
        let low = bits.checked_shr(bits.trailing_zeros())?;
        (low & low.wrapping_add(1) == 0).then_some(Self(bits))
    }

    /// Another one, for a hint.
    pub(super) fn other(self) -> Self {
        const HINT: MarkMask = MarkMask(0x00ff_0000);
        if self.0 & HINT.0 == 0 {
            HINT
        } else {
            Self::DEFAULT
        }
    }

    /// The largest tunnel id that has a mark.
    fn id_max(self) -> u32 {
        (self.0 >> self.0.trailing_zeros()) - 1
    }
}

impl FromStr for MarkMask {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        let digits = given
            .strip_prefix("0x")
            .or_else(|| given.strip_prefix("0X"));
        let digits = digits.unwrap_or(given);
        let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        bits.and_then(Self::new)
            .ok_or_else(|| ValueError::MarkMask {
                given: given.into(),
            })
    }
}

impl fmt::Display for MarkMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// The marks of one steer, and where its rules and routes for them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Bits of the mark.
    pub mask: MarkMask,
    /// Which rules and tables, from 1.
    pub slot: u32,
}

impl Marks {
    /// Those that settings speak of.
    pub fn of(settings: &Settings) -> Option<Self> {
        let mask = MarkMask::new(settings.mark_mask)?;
        (settings.routing_slot != 0).then_some(Self {
            mask,
            slot: settings.routing_slot,
        })
    }

    /// The table that a tunnel's packets are routed by.
    pub fn table(&self, tunnel: TunnelId) -> u32 {
        own_routing(self.slot).tables.start() + u32::from(tunnel)
    }

    /// The rules for some tunnels, for both families.
    pub fn rules(&self, tunnels: impl IntoIterator<Item = TunnelId>) -> Vec<MarkRule> {
        let pref = *own_routing(self.slot).prefs.start();
        let mask = self.mask.bits();
        let of_tunnel = |tunnel| {
            Family::ALL.map(|family| MarkRule {
                family,
                pref,
                mark: Settings::mark_of(mask, tunnel),
                mask,
                table: self.table(tunnel),
            })
        };
        tunnels.into_iter().flat_map(of_tunnel).collect()
    }
}

/// What belongs to the steer of a slot; nothing for slot 0.
pub fn own_routing(slot: u32) -> OwnRouting {
    let Some(index) = slot.checked_sub(1) else {
        // No rule looks up table 0.
        return OwnRouting {
            prefs: 0..=0,
            tables: 0..=0,
        };
    };
    let table = TABLE + index * TABLES;
    OwnRouting {
        prefs: PREF + index..=PREF + index,
        tables: table..=table + TABLES - 1,
    }
}

/// The marks that a mode needs for all tunnels of all groups; `None` when it needs none.
pub(super) fn plan(
    request: &Request,
    machine: &Machine<'_>,
    existing: &Existing,
    mode: HookMode,
    groups: &[GroupPlan],
) -> Result<Option<Marks>, PlanError> {
    let needs_marks = match mode {
        HookMode::Mark => true,
        // What is too big for its tunnel is answered by the kernel, which must know the tunnel.
        HookMode::Ingress => has_unequal_mtus(machine.devices, existing, groups),
        HookMode::Egress | HookMode::Unset => false,
    };
    if !needs_marks {
        return Ok(None);
    }
    let before = MarkMask::new(existing.mark_mask);
    let mask = request.mark_mask.or(before).unwrap_or(MarkMask::DEFAULT);
    let others = existing
        .tunnels()
        .filter(|(group, _)| request.group(&group.name).is_none())
        .map(|(_, tunnel)| (tunnel.name.as_str(), tunnel.id));
    let of_plan = groups.iter().flat_map(|group| &group.tunnels);
    let of_plan = of_plan.map(|tunnel| (tunnel.name.as_str(), tunnel.id));
    if let Some((name, id)) = of_plan
        .chain(others)
        .find(|(_, id)| u32::from(*id) > mask.id_max())
    {
        return Err(PlanError::MarkMaskTooSmall {
            mask,
            tunnel: name.to_owned(),
            id,
        });
    }
    let own = own_routing(existing.routing_slot);
    let users = net::mark_users(mask.bits(), &own, &machine.rules, machine.devices);
    if let Some(user) = users.first() {
        return Err(PlanError::MarkUsed {
            mask,
            user: user.to_string(),
            is_steer: matches!(user, MarkUser::Rule(rule) if rule.protocol == net::ROUTE_PROTOCOL),
        });
    }
    let slot = match existing.routing_slot {
        0 => free_slot(&machine.rules).ok_or(PlanError::NoRoutingSlot)?,
        slot => slot,
    };
    Ok(Some(Marks { mask, slot }))
}

/// The first slot that nobody has a rule in.
fn free_slot(rules: &[Rule]) -> Option<u32> {
    let is_free = |slot: &u32| {
        let own = own_routing(*slot);
        !rules.iter().any(|rule| {
            let looks_up = |table| own.tables.contains(&table);
            own.prefs.contains(&rule.pref)
                || matches!(rule.action, RuleAction::Lookup(table) if looks_up(table))
        })
    };
    (1..=SLOTS).find(is_free)
}

/// Whether the tunnels of any group have different MTUs.
fn has_unequal_mtus(devices: &Devices, existing: &Existing, planned: &[GroupPlan]) -> bool {
    let mut others = existing
        .groups
        .iter()
        .filter(|group| planned.iter().all(|planned| planned.name != group.name));
    let is_unequal = |group: &GroupPlan| {
        let there = group.tunnels.iter().filter(|tunnel| tunnel.ifindex != 0);
        unequal_mtus(there.map(|tunnel| (tunnel.name.as_str(), tunnel.mtu_bytes))).is_some()
    };
    planned.iter().any(is_unequal)
        || others.any(|group| {
            let names = group.tunnels.iter().map(|tunnel| tunnel.name.as_str());
            let there = names.filter_map(|name| Some((name, devices.by_name(name)?.mtu_bytes)));
            unequal_mtus(there).is_some()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (given, bits) in [
            ("0xff000000", 0xff00_0000),
            ("FF000000", 0xff00_0000),
            ("0xf0", 0xf0),
            ("1", 1),
            ("0xffffffff", u32::MAX),
        ] {
            assert_eq!(given.parse(), Ok(MarkMask(bits)), "{given}");
        }
        for given in [
            "",
            "0x",
            "0",
            "0x5",
            "0xf0f",
            "0x1ffffffff",
            "+f",
            "all",
            "-1",
        ] {
            assert!(given.parse::<MarkMask>().is_err(), "{given}");
        }
        assert_eq!(MarkMask::DEFAULT.to_string(), "0xff000000");
        assert_eq!(MarkMask::DEFAULT.id_max(), 254);
        assert_eq!(MarkMask(0x300).id_max(), 2);
        assert_eq!(MarkMask(0x80).id_max(), 0);
    }

    #[test]
    fn slots() {
        let marks = Marks {
            mask: MarkMask(0xf0),
            slot: 2,
        };
        assert_eq!(marks.table(3), 572_559);
        let rules = marks.rules([0, 3]);
        assert_eq!(rules.len(), 4);
        assert_eq!(
            rules[3].to_string(),
            "pref 5211 fwmark 0x40/0xf0 lookup 572559"
        );
        let ours: Vec<Rule> = rules.iter().map(Rule::from).collect();
        assert!(ours.iter().all(|rule| own_routing(2).has_rule(rule)));
        for slot in [0, 1, 3] {
            assert!(!ours.iter().any(|rule| own_routing(slot).has_rule(rule)));
        }
        assert_eq!(free_slot(&ours), Some(1));
        let first = Marks { slot: 1, ..marks };
        let both: Vec<Rule> = [first, marks]
            .iter()
            .flat_map(|marks| marks.rules([0]))
            .map(|rule| Rule::from(&rule))
            .collect();
        assert_eq!(free_slot(&both), Some(3));
        // Somebody else's rule to one of our tables, or with our preference.
        let mut foreign = ours[0].clone();
        foreign.protocol = 3;
        foreign.pref = 7;
        foreign.action = RuleAction::Lookup(572_300);
        assert_eq!(free_slot(&[foreign.clone()]), Some(2));
        foreign.action = RuleAction::Lookup(254);
        foreign.pref = 5_210;
        assert_eq!(free_slot(&[foreign]), Some(2));
    }
}
