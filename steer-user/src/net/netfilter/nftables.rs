//! The tables of `nf_tables`, by netlink.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use netlink_packet_core::{DefaultNla, Emitable as _};
use nix::net::if_::if_indextoname;

use super::attributes::Attributes;
use super::expressions::{self, Parsed};
use super::nfnetlink::Nfnetlink;
use super::ruleset::{Base, Chain, Hook, Table, Verdict};
use super::{ATTEMPTS, DevicePattern, DeviceSet, NetError, PacketFamily, malformed};

/// `NFNL_SUBSYS_NFTABLES`: what the numbers of its messages begin at.
const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM + 1;
const GET_CHAIN: u16 = SUBSYSTEM + 4;
const GET_RULE: u16 = SUBSYSTEM + 7;
const GET_ELEMENTS: u16 = SUBSYSTEM + 13;
const GET_GENERATION: u16 = SUBSYSTEM + 16;

const FAMILY_ALL: u8 = 0;
const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;
const FAMILY_NETDEV: u8 = 5;
const FAMILY_IPV6: u8 = 10;

/// Family and name of a table.
type TableKey = (u8, String);
type Tables = BTreeMap<TableKey, Table>;

/// All tables that forwarded packets may come to; none where the kernel has
/// no `nf_tables`.
pub(super) fn read() -> Result<Vec<Table>, NetError> {
    for _ in 0..ATTEMPTS {
        match look() {
            Err(NetError::Request { cause, .. }) if cause.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
    Err(failed("rules of nf_tables")(io::Error::other(
        "they change faster than they can be read",
    )))
}

/// One look at the rules; `Interrupted` if they change meanwhile.
fn look() -> Result<Vec<Table>, NetError> {
    let mut netlink = match Nfnetlink::open() {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
        result => result.map_err(NetError::Socket)?,
    };
    let before = match generation(&mut netlink) {
        // Netfilter knows no such subsystem.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            return Ok(Vec::new());
        }
        result => result.map_err(failed("state of nf_tables"))?,
    };
    let mut tables = tables(&mut netlink).map_err(failed("tables of nf_tables"))?;
    add_chains(&mut netlink, &mut tables).map_err(failed("chains of nf_tables"))?;
    tables.retain(|_, table| table.chains.values().any(|chain| chain.base.is_some()));
    if !tables.is_empty() {
        let rules = rules(&mut netlink, &tables).map_err(failed("rules of nf_tables"))?;
        add_rules(&mut netlink, &mut tables, rules)?;
    }
    let after = generation(&mut netlink).map_err(failed("state of nf_tables"))?;
    if after != before {
        return Err(failed("rules of nf_tables")(
            io::ErrorKind::Interrupted.into(),
        ));
    }
    Ok(tables.into_values().collect())
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
    let what = what.into();
    |cause| NetError::Request { what, cause }
}

/// A number that every change of the rules changes.
fn generation(netlink: &mut Nfnetlink) -> io::Result<u32> {
    const ID: u16 = 1;
    let mut generation = None;
    netlink.get(GET_GENERATION, |_, attributes| {
        generation = attributes.number(ID)?;
        Ok(())
    })?;
    generation.ok_or_else(malformed)
}

/// The tables that are in use, still without chains.
fn tables(netlink: &mut Nfnetlink) -> io::Result<Tables> {
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    const DORMANT: u32 = 1;
    let mut tables = Tables::new();
    netlink.dump(GET_TABLE, FAMILY_ALL, &[], |family, attributes| {
        let (packets, word) = match family {
            FAMILY_INET => (PacketFamily::Both, "inet"),
            FAMILY_IPV4 => (PacketFamily::Ipv4, "ip"),
            FAMILY_IPV6 => (PacketFamily::Ipv6, "ip6"),
            FAMILY_NETDEV => (PacketFamily::Both, "netdev"),
            // What a bridge or ARP does is no forwarding of IP packets.
            _ => return Ok(()),
        };
        let name = attributes.name(NAME)?;
        if attributes.number(FLAGS)?.unwrap_or(0) & DORMANT != 0 {
            return Ok(());
        }
        let table = Table {
            family: packets,
            place: format!("nft table {word} {name}, chain "),
            chains: BTreeMap::new(),
        };
        tables.insert((family, name), table);
        Ok(())
    })?;
    Ok(tables)
}

fn add_chains(netlink: &mut Nfnetlink, tables: &mut Tables) -> io::Result<()> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    netlink.dump(GET_CHAIN, FAMILY_ALL, &[], |family, attributes| {
        let key = (family, attributes.name(TABLE)?);
        if let Some(table) = tables.get_mut(&key) {
            let chain = Chain::new(base(family, attributes)?);
            table.chains.insert(attributes.name(NAME)?, chain);
        }
        Ok(())
    })
}

/// Where the kernel calls this chain, if that is on the way of forwarded packets.
fn base(family: u8, chain: Attributes) -> io::Result<Option<Base>> {
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    const DROP: u32 = libc::NF_DROP.cast_unsigned();
    let Some(attributes) = chain.bytes(HOOK)?.map(Attributes::new) else {
        return Ok(None);
    };
    let number = attributes.number(HOOK_NUMBER)?.ok_or_else(malformed)?;
    let hook = match (family, number.cast_signed()) {
        (FAMILY_NETDEV, libc::NF_NETDEV_INGRESS) | (FAMILY_INET, libc::NF_INET_INGRESS) => {
            device_hook(attributes, true)?
        }
        (FAMILY_NETDEV, libc::NF_NETDEV_EGRESS) => device_hook(attributes, false)?,
        (FAMILY_NETDEV, _) => return Ok(None),
        (_, libc::NF_INET_PRE_ROUTING) => Hook::Prerouting,
        (_, libc::NF_INET_FORWARD) => Hook::Forward,
        (_, libc::NF_INET_POST_ROUTING) => Hook::Postrouting,
        _ => return Ok(None),
    };
    if matches!(&hook, Hook::Device { devices, .. } if devices.is_none()) {
        return Ok(None);
    }
    Ok(Some(Base {
        hook,
        nat: chain.text(TYPE)?.as_deref() == Some("nat"),
        drops: chain.number(POLICY)? == Some(DROP),
    }))
}

fn device_hook(hook: Attributes, ingress: bool) -> io::Result<Hook> {
    const DEVICE: u16 = 3;
    const DEVICES: u16 = 4;
    const DEVICE_NAME: u16 = 1;
    const DEVICE_PREFIX: u16 = 2;
    let mut devices = DeviceSet::none();
    let mut add = |pattern| devices.widen(&DeviceSet::one(pattern));
    if let Some(name) = hook.text(DEVICE)? {
        add(DevicePattern::Name(name));
    }
    let list = hook.nested(DEVICES)?;
    for device in list.iter() {
        match device? {
            (DEVICE_NAME, name) => add(DevicePattern::Name(super::text(name))),
            (DEVICE_PREFIX, prefix) => add(DevicePattern::Prefix(super::text(prefix))),
            _ => continue,
        };
    }
    Ok(Hook::Device { devices, ingress })
}

/// A rule with the table and the name of the chain that it is in.
type PlacedRule = (TableKey, String, Parsed);

/// The rules of these tables.
fn rules(netlink: &mut Nfnetlink, tables: &Tables) -> io::Result<Vec<PlacedRule>> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let mut rules = Vec::new();
    netlink.dump(GET_RULE, FAMILY_ALL, &[], |family, attributes| {
        let key = (family, attributes.name(TABLE)?);
        if tables.contains_key(&key) {
            let parsed = expressions::rule(attributes.nested(EXPRESSIONS)?)?;
            rules.push((key, attributes.name(CHAIN)?, parsed));
        }
        Ok(())
    })?;
    Ok(rules)
}

/// Completes the rules by what they refer to, and adds them to their chains.
fn add_rules(
    netlink: &mut Nfnetlink,
    tables: &mut Tables,
    rules: Vec<PlacedRule>,
) -> Result<(), NetError> {
    let mut sets: HashMap<(TableKey, String), Elements> = HashMap::new();
    for (key, chain, mut parsed) in rules {
        let named = parsed.verdict_maps.iter().chain(&parsed.leaves_by_set);
        for set in named {
            if let Entry::Vacant(entry) = sets.entry((key.clone(), set.clone())) {
                let what = format!("nf_tables set {set} of table {}", key.1);
                let elements = elements(netlink, &key, set).map_err(failed(what))?;
                entry.insert(elements);
            }
        }
        let set = |name: &String| &sets[&(key.clone(), name.clone())];
        for map in &parsed.verdict_maps {
            let verdicts = set(map).verdicts.iter().cloned();
            parsed.rule.verdicts.extend(verdicts);
        }
        if let Some(names) = &parsed.leaves_by_set {
            parsed.rule.leave_by(&set(names).devices);
        }
        if let Some(index) = parsed.leaves_by_index {
            parsed.rule.leave_by(&device(index));
        }
        let table = tables.get_mut(&key);
        if let Some(chain) = table.and_then(|table| table.chains.get_mut(&chain)) {
            chain.add(parsed.rule);
        }
    }
    Ok(())
}

/// What a set holds, as far as rules need it.
struct Elements {
    /// Its keys, if they are whole device names.
    devices: DeviceSet,
    /// The verdicts that it maps to.
    verdicts: BTreeSet<Verdict>,
}

impl Default for Elements {
    fn default() -> Self {
        Self {
            devices: DeviceSet::none(),
            verdicts: BTreeSet::new(),
        }
    }
}

fn elements(netlink: &mut Nfnetlink, table: &TableKey, set: &str) -> io::Result<Elements> {
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    const LIST_ELEM: u16 = 1;
    let mut found = Elements::default();
    let request = [named(TABLE, &table.1), named(SET, set)];
    let mut attributes = vec![0; request.as_slice().buffer_len()];
    request.as_slice().emit(&mut attributes);
    let result = netlink.dump(GET_ELEMENTS, table.0, &attributes, |_, part| {
        for element in part.nested(ELEMENTS)?.each(LIST_ELEM) {
            found.note(element?)?;
        }
        Ok(())
    });
    match result {
        // The rule that named it is gone too, then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::ErrorKind::Interrupted.into())
        }
        result => result.map(|()| found),
    }
}

fn named(kind: u16, name: &str) -> DefaultNla {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    DefaultNla::new(kind, value)
}

impl Elements {
    /// Notes one element.
    fn note(&mut self, element: Attributes) -> io::Result<()> {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_END: u16 = 10;
        self.verdicts
            .extend(expressions::verdict(element.nested(DATA)?)?);
        // Flags mark the end of a range, or what stands for all other keys.
        let plain = element.number(FLAGS)?.unwrap_or(0) == 0 && element.bytes(KEY_END)?.is_none();
        let key = expressions::value(element.nested(KEY)?)?;
        let devices = match key {
            Some(name) if plain && name.len() == libc::IFNAMSIZ => {
                DeviceSet::one(DevicePattern::compared(name))
            }
            _ => DeviceSet::Any,
        };
        self.devices.widen(&devices);
        Ok(())
    }
}

/// The device of this number; none where there is none, as then no packet
/// leaves by it.
fn device(index: u32) -> DeviceSet {
    if_indextoname(index).map_or(DeviceSet::none(), |name| {
        DeviceSet::one(DevicePattern::Name(name.to_string_lossy().into_owned()))
    })
}
