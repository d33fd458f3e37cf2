//! Tables of chains, however they were read, and what follows from them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{DeviceSet, Finding, FindingKind, PacketFamily};

/// One table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) family: PacketFamily,
    /// What comes before a chain's name in the place of a finding.
    pub(super) place: String,
    /// Its chains by name.
    pub(super) chains: BTreeMap<String, Chain>,
}

/// One chain. Its rules are summed up as they are added, so that a chain of
/// ten thousand rules is no more work than a short one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Present in a base chain on the way of forwarded packets.
    pub(super) base: Option<Base>,
    /// What its rules do, and to packets that leave by which devices.
    effects: BTreeMap<Effect, DeviceSet>,
    /// The chains that its rules go to, for packets that leave by which devices.
    jumps: BTreeMap<String, DeviceSet>,
}

/// Where the kernel calls a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Base {
    pub(super) hook: Hook,
    /// It sees only the first packet of a connection, to choose its addresses.
    pub(super) nat: bool,
    /// What no rule accepts is dropped.
    pub(super) drops: bool,
}

/// The hooks that forwarded packets pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    Prerouting,
    Forward,
    Postrouting,
    Device { devices: DeviceSet, ingress: bool },
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    Stateful,
    SourceNat,
    DestinationNat,
    /// One-to-one NAT, of the source or the destination depending on the hook.
    NetMap,
    MssClamp,
    TransparentProxy,
    /// None of the above: the packet's fate, or a change to it.
    Filter,
    /// As `Filter`, and not just one that leaves packets as they are.
    Interference,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) effects: BTreeSet<Effect>,
    /// It changes something, or may, that has no effect of its own here.
    pub(super) acts: bool,
    /// How it may end.
    pub(super) verdicts: BTreeSet<Verdict>,
    /// Devices that a packet which it is about may leave by.
    pub(super) leaves_by: DeviceSet,
}

/// How a rule ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Accepted, or left to other rules.
    Continue,
    /// Not forwarded, or not by the kernel.
    Drop,
    /// Jump or goto.
    Chain(String),
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            effects: BTreeSet::new(),
            acts: false,
            verdicts: BTreeSet::new(),
            leaves_by: DeviceSet::Any,
        }
    }
}

impl Rule {
    /// Says that it is only about packets that leave by these devices.
    pub(super) fn leave_by(&mut self, devices: &DeviceSet) {
        self.leaves_by = self.leaves_by.intersection(devices);
    }
}

impl Chain {
    /// A chain without rules.
    pub(super) const fn new(base: Option<Base>) -> Self {
        Self {
            base,
            effects: BTreeMap::new(),
            jumps: BTreeMap::new(),
        }
    }

    /// Sums up one more rule.
    pub(super) fn add(&mut self, mut rule: Rule) {
        if rule.effects.is_empty() {
            let is_jump = |verdict: &Verdict| matches!(verdict, Verdict::Chain(_));
            let jumps_only = !rule.verdicts.is_empty() && rule.verdicts.iter().all(is_jump);
            // A mere jump does what the rules there do.
            if rule.acts || !jumps_only {
                rule.effects.insert(Effect::Filter);
            }
            if rule.acts || rule.verdicts.contains(&Verdict::Drop) {
                rule.effects.insert(Effect::Interference);
            }
        }
        for effect in rule.effects {
            self.effects
                .entry(effect)
                .or_insert(DeviceSet::none())
                .widen(&rule.leaves_by);
        }
        for verdict in rule.verdicts {
            if let Verdict::Chain(name) = verdict {
                self.jumps
                    .entry(name)
                    .or_insert(DeviceSet::none())
                    .widen(&rule.leaves_by);
            }
        }
    }
}

impl Table {
    /// What its chains do to forwarded packets.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, reached) in self.reached() {
            let mut kinds = BTreeSet::new();
            let mut may_leave_by = DeviceSet::none();
            let chain = &self.chains[name];
            if let Some(base) = chain.base.as_ref().filter(|base| base.drops) {
                kinds.extend(kind(Effect::Interference, base, DeviceSet::Any));
            }
            for (base, devices) in &reached {
                for (effect, leaves_by) in &chain.effects {
                    let devices = devices.intersection(leaves_by);
                    if devices.is_none() {
                        continue;
                    }
                    match kind(*effect, base, devices) {
                        Some(FindingKind::SourceNat { may_leave_by: more }) => {
                            may_leave_by.widen(&more);
                        }
                        kind => kinds.extend(kind),
                    }
                }
            }
            if !may_leave_by.is_none() {
                kinds.insert(FindingKind::SourceNat { may_leave_by });
            }
            findings.extend(kinds.into_iter().map(|kind| Finding {
                kind,
                family: self.family,
                place: format!("{}{name}", self.place),
            }));
        }
        findings
    }

    /// Every chain that forwarded packets may come to: from which base chains,
    /// and then leaving by which devices.
    fn reached(&self) -> BTreeMap<&str, BTreeMap<&Base, DeviceSet>> {
        let mut reached: BTreeMap<&str, BTreeMap<&Base, DeviceSet>> = BTreeMap::new();
        let mut to_visit: Vec<(&str, &Base, DeviceSet)> = self
            .chains
            .iter()
            .filter_map(|(name, chain)| Some((name.as_str(), chain.base.as_ref()?, DeviceSet::Any)))
            .collect();
        while let Some((name, base, devices)) = to_visit.pop() {
            let Some((name, chain)) = self.chains.get_key_value(name) else {
                continue;
            };
            if devices.is_none() {
                continue;
            }
            // Visited again only for more devices, so this ends.
            let known = reached
                .entry(name)
                .or_default()
                .entry(base)
                .or_insert(DeviceSet::none());
            if known.widen(&devices) {
                to_visit.extend(
                    chain
                        .jumps
                        .iter()
                        .map(|(to, only)| (to.as_str(), base, devices.intersection(only))),
                );
            }
        }
        reached
    }
}

/// What an effect is to packets that come from this base chain.
fn kind(effect: Effect, base: &Base, may_leave_by: DeviceSet) -> Option<FindingKind> {
    if let Hook::Device { devices, ingress } = &base.hook {
        return Some(FindingKind::DeviceFilter {
            devices: devices.clone(),
            ingress: *ingress,
        });
    }
    match effect {
        Effect::Stateful => Some(FindingKind::Stateful),
        Effect::DestinationNat => Some(FindingKind::DestinationNat),
        Effect::NetMap if base.hook == Hook::Prerouting => Some(FindingKind::DestinationNat),
        Effect::SourceNat | Effect::NetMap => Some(FindingKind::SourceNat { may_leave_by }),
        Effect::MssClamp => Some(FindingKind::MssClamp),
        Effect::TransparentProxy => Some(FindingKind::TransparentProxy),
        // Rules of a NAT chain that let packets through only except them from NAT.
        Effect::Filter => (!base.nat).then_some(FindingKind::Filter),
        Effect::Interference => Some(FindingKind::Filter),
    }
}

#[cfg(test)]
mod tests {
    use super::super::DevicePattern;
    use super::*;

    fn base(hook: Hook, nat: bool) -> Chain {
        Chain::new(Some(Base {
            hook,
            nat,
            drops: false,
        }))
    }

    fn does(effect: Effect) -> Rule {
        Rule {
            effects: BTreeSet::from([effect]),
            ..Rule::default()
        }
    }

    fn ends(verdict: Verdict) -> Rule {
        Rule {
            verdicts: BTreeSet::from([verdict]),
            ..Rule::default()
        }
    }

    fn jumps(to: &str) -> Rule {
        ends(Verdict::Chain(to.into()))
    }

    fn device(name: &str) -> DeviceSet {
        DeviceSet::one(DevicePattern::Name(name.into()))
    }

    /// Kinds and places of what is found in a table of these chains.
    fn findings(chains: Vec<(&str, Chain, Vec<Rule>)>) -> Vec<(FindingKind, String)> {
        let table = Table {
            family: PacketFamily::Both,
            place: "chain ".into(),
            chains: chains
                .into_iter()
                .map(|(name, mut chain, rules)| {
                    for rule in rules {
                        chain.add(rule);
                    }
                    (name.to_owned(), chain)
                })
                .collect(),
        };
        table
            .findings()
            .into_iter()
            .map(|finding| (finding.kind, finding.place))
            .collect()
    }

    #[test]
    fn what_only_jumps_does_nothing() {
        let forward = || base(Hook::Forward, false);
        let jump_and_act = Rule {
            acts: true,
            ..jumps("user")
        };
        let nothing: &[(FindingKind, String)] = &[];
        let user = ("user", Chain::new(None), vec![]);
        let both = vec![("forward", forward(), vec![jumps("user")]), user];
        assert_eq!(findings(both), nothing);
        let user = ("user", Chain::new(None), vec![]);
        let both = vec![("forward", forward(), vec![jump_and_act]), user];
        let filter = [(FindingKind::Filter, "chain forward".into())];
        assert_eq!(findings(both), filter);
        let accept = vec![ends(Verdict::Continue)];
        assert_eq!(findings(vec![("forward", forward(), accept)]), filter);
    }

    #[test]
    fn nat_chains_filter_only_by_dropping() {
        let post = |rule| vec![("post", base(Hook::Postrouting, true), vec![rule])];
        assert_eq!(findings(post(ends(Verdict::Continue))), []);
        assert_eq!(
            findings(post(ends(Verdict::Drop))),
            [(FindingKind::Filter, "chain post".into())]
        );
    }

    #[test]
    fn a_chain_of_two_hooks() {
        let kinds = findings(vec![
            ("post", base(Hook::Postrouting, true), vec![jumps("user")]),
            ("pre", base(Hook::Prerouting, true), vec![jumps("user")]),
            ("user", Chain::new(None), vec![does(Effect::NetMap)]),
        ]);
        let nat = FindingKind::SourceNat {
            may_leave_by: DeviceSet::Any,
        };
        assert_eq!(
            kinds,
            [
                (nat, "chain user".into()),
                (FindingKind::DestinationNat, "chain user".into()),
            ]
        );
    }

    #[test]
    fn chains_that_go_in_circles() {
        let mut by_wg0 = jumps("b");
        by_wg0.leave_by(&device("wg0"));
        let mut by_wg1 = jumps("b");
        by_wg1.leave_by(&device("wg1"));
        let kinds = findings(vec![
            ("post", base(Hook::Postrouting, true), vec![by_wg0, by_wg1]),
            ("a", Chain::new(None), vec![jumps("b")]),
            (
                "b",
                Chain::new(None),
                vec![does(Effect::SourceNat), jumps("a"), jumps("nowhere")],
            ),
        ]);
        let mut may_leave_by = device("wg0");
        may_leave_by.widen(&device("wg1"));
        let nat = FindingKind::SourceNat { may_leave_by };
        assert_eq!(kinds, [(nat, "chain b".into())]);
    }

    #[test]
    fn what_no_packet_comes_to_is_nothing() {
        let only = |name, mut rule: Rule| {
            rule.leave_by(&device(name));
            rule
        };
        let chains = findings(vec![
            (
                "forward",
                base(Hook::Forward, false),
                vec![
                    only("wg0", jumps("by_wg0")),
                    only("eth0", only("wg0", does(Effect::SourceNat))),
                ],
            ),
            (
                "by_wg0",
                Chain::new(None),
                vec![
                    only("eth0", jumps("by_none")),
                    only("eth0", does(Effect::Stateful)),
                    only("wg0", does(Effect::MssClamp)),
                ],
            ),
            ("by_none", Chain::new(None), vec![does(Effect::Stateful)]),
        ]);
        assert_eq!(chains, [(FindingKind::MssClamp, "chain by_wg0".into())]);
    }
}
