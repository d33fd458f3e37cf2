//! The rules of an older iptables table: one block of entries, chains after
//! one another (`linux/netfilter/x_tables.h`). Pure.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::ruleset::{Base, Chain, Hook, Rule, Verdict};
use super::{DevicePattern, DeviceSet, text, xtables};

/// Where things are in an entry.
pub(super) struct Layout {
    out_device: Range<usize>,
    out_device_mask: Range<usize>,
    inverse_flags: usize,
    target_offset: Range<usize>,
    next_offset: Range<usize>,
    entry_bytes: usize,
}

impl Layout {
    /// `struct ipt_entry`.
    pub(super) const IPV4: Self = Self {
        out_device: 32..48,
        out_device_mask: 64..80,
        inverse_flags: 83,
        target_offset: 88..90,
        next_offset: 90..92,
        entry_bytes: 112,
    };
    /// `struct ip6t_entry`.
    pub(super) const IPV6: Self = Self {
        out_device: 80..96,
        out_device_mask: 112..128,
        inverse_flags: 132,
        target_offset: 140..142,
        next_offset: 142..144,
        entry_bytes: 168,
    };
}

/// The hooks by number, with the chains that are called there.
static HOOKS: [(&str, Option<Hook>); 5] = [
    ("PREROUTING", Some(Hook::Prerouting)),
    ("INPUT", None),
    ("FORWARD", Some(Hook::Forward)),
    ("OUTPUT", None),
    ("POSTROUTING", Some(Hook::Postrouting)),
];

/// `struct ipt_getinfo`, and `struct ip6t_getinfo`, which is the same.
#[derive(Debug)]
pub(super) struct Info {
    nat: bool,
    valid_hooks: u32,
    /// Where each hook's chain begins.
    first: [u32; 5],
    /// Its last entry: the policy.
    policy: [u32; 5],
    /// Size of all entries.
    pub(super) entries_bytes: usize,
}

impl Info {
    pub(super) const BYTES: usize = 84;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |index: usize| number(bytes, 32 + 4 * index);
        let numbers = |index: usize| {
            let mut numbers_of_hooks = [0; 5];
            for (hook, slot) in numbers_of_hooks.iter_mut().enumerate() {
                *slot = number(index + hook)?;
            }
            Some(numbers_of_hooks)
        };
        Some(Self {
            nat: text(bytes.get(..32)?) == "nat",
            valid_hooks: number(0)?,
            first: numbers(1)?,
            policy: numbers(6)?,
            entries_bytes: usize::try_from(number(12)?).ok()?,
        })
    }

    /// A chain without rules, of the hook whose first entry this is, if it is one's.
    fn empty_chain(&self, offset: u32) -> Chain {
        let hook = self.hooks(self.first).find(|(_, first)| *first == offset);
        Chain::new(hook.and_then(|((_, hook), _)| {
            Some(Base {
                hook: hook.clone()?,
                nat: self.nat,
                drops: false,
            })
        }))
    }

    fn is_policy(&self, offset: u32) -> bool {
        self.hooks(self.policy).any(|(_, policy)| policy == offset)
    }

    /// The hooks that this table has, each with its offset out of these.
    fn hooks(
        &self,
        offsets: [u32; 5],
    ) -> impl Iterator<Item = (&'static (&'static str, Option<Hook>), u32)> {
        let valid = self.valid_hooks;
        HOOKS
            .iter()
            .zip(offsets)
            .enumerate()
            .filter(move |(hook, _)| valid & (1 << hook) != 0)
            .map(|(_, hook)| hook)
    }
}

/// The chains of a table; `None` if the entries make no sense.
pub(super) fn chains(
    layout: &Layout,
    info: &Info,
    bytes: &[u8],
) -> Option<BTreeMap<String, Chain>> {
    let entries = entries(layout, bytes)?;
    let starts = starts(info, &entries);
    let mut chains = BTreeMap::new();
    let mut name = "";
    for (index, entry) in entries.iter().enumerate() {
        if let Some(start) = starts.get(&entry.offset) {
            name = start;
            chains.insert(name.to_owned(), info.empty_chain(entry.offset));
        }
        if let Target::Head(_) = entry.target {
            continue;
        }
        let chain = chains.get_mut(name)?;
        if info.is_policy(entry.offset) {
            if let Some(base) = &mut chain.base {
                base.drops = matches!(entry.target, Target::Standard(DROP));
            }
        } else if let Some(Target::Head(_)) = entries.get(index + 1).map(|next| &next.target) {
            // Every chain of the user's ends with a return of its own.
        } else {
            chain.add(entry.rule(layout, &starts)?);
        }
    }
    Some(chains)
}

/// The names of all chains by the offset of their first entry.
fn starts(info: &Info, entries: &[Entry]) -> HashMap<u32, String> {
    let builtin = info
        .hooks(info.first)
        .map(|((name, _), offset)| (offset, (*name).to_owned()));
    let of_users = entries.iter().filter_map(|entry| match &entry.target {
        Target::Head(name) => Some((entry.next, name.clone())),
        _ => None,
    });
    builtin.chain(of_users).collect()
}

/// Cuts the block into its entries.
fn entries<'a>(layout: &Layout, bytes: &'a [u8]) -> Option<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        let length = short(rest, &layout.next_offset)?;
        let entry = rest.get(..length).filter(|_| length > layout.entry_bytes)?;
        let target_at = short(entry, &layout.target_offset)?;
        entries.push(Entry {
            offset: u32::try_from(offset).ok()?,
            next: u32::try_from(offset + length).ok()?,
            bytes: entry,
            target_at,
            target: Target::parse(entry.get(target_at..)?)?,
        });
        offset += length;
    }
    Some(entries)
}

/// One entry.
struct Entry<'a> {
    offset: u32,
    next: u32,
    bytes: &'a [u8],
    target_at: usize,
    target: Target,
}

/// How an entry ends.
enum Target {
    /// The head of a chain of the user's, with its name; or the end of the table.
    Head(String),
    /// A verdict, or the offset to go on at.
    Standard(i32),
    /// By its name.
    Extension(String),
}

/// `-NF_DROP - 1`: verdicts are stored so that they are negative.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

/// `struct xt_entry_match` and `xt_entry_target`: size, name, revision; then
/// what belongs to this name.
const EXTENSION_NAME: Range<usize> = 2..31;
const EXTENSION_DATA: usize = 32;

impl Target {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let data = bytes.get(EXTENSION_DATA..)?;
        Some(match text(&bytes[EXTENSION_NAME]).as_str() {
            "" => Self::Standard(number(data, 0)?.cast_signed()),
            "ERROR" => Self::Head(text(data)),
            name => Self::Extension(name.to_owned()),
        })
    }
}

impl Entry<'_> {
    fn rule(&self, layout: &Layout, starts: &HashMap<u32, String>) -> Option<Rule> {
        let mut rule = Rule::default();
        rule.leave_by(&self.leaves_by(layout)?);
        let mut matches = self.bytes.get(layout.entry_bytes..self.target_at)?;
        while !matches.is_empty() {
            let length = short(matches, &(0..2)).filter(|length| *length >= EXTENSION_DATA)?;
            let (one, rest) = matches.split_at_checked(length)?;
            xtables::note_match(&text(&one[EXTENSION_NAME]), &mut rule);
            matches = rest;
        }
        match &self.target {
            Target::Extension(name) => xtables::note_target(name, &mut rule),
            Target::Standard(verdict) => match u32::try_from(*verdict) {
                // It has no verdict, and goes on at the next rule.
                Ok(offset) if offset == self.next => {}
                Ok(offset) => {
                    let chain = starts.get(&offset)?.clone();
                    rule.verdicts.insert(Verdict::Chain(chain));
                }
                Err(_) => {
                    rule.verdicts.insert(match *verdict {
                        ACCEPT | RETURN => Verdict::Continue,
                        _ => Verdict::Drop,
                    });
                }
            },
            Target::Head(_) => return None,
        }
        Some(rule)
    }

    fn leaves_by(&self, layout: &Layout) -> Option<DeviceSet> {
        const INVERSE_OUT_DEVICE: u8 = 2;
        let mask = self.bytes.get(layout.out_device_mask.clone())?;
        let compared = mask.iter().take_while(|byte| **byte != 0).count();
        let device = self.bytes.get(layout.out_device.clone())?;
        let inverse = self.bytes.get(layout.inverse_flags)? & INVERSE_OUT_DEVICE != 0;
        Some(if compared == 0 || inverse {
            DeviceSet::Any
        } else {
            DeviceSet::one(DevicePattern::compared(&device[..compared]))
        })
    }
}

fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let number = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*number))
}

fn short(bytes: &[u8], at: &Range<usize>) -> Option<usize> {
    let number = bytes.get(at.clone())?.try_into().ok()?;
    Some(u16::from_ne_bytes(number).into())
}

#[cfg(test)]
mod tests;
