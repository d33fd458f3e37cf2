//! One row at one hook, in a fresh world: what must be true afterwards.

use std::net::IpAddr;

use steer_common::{
    abi::{Counters, FlowEntry, Origin, PassReason, TunnelCounters, TunnelId},
    key::mapped,
    parse::{Parsed, Version},
};
use steer_tests::packets::{
    build::{self, Arrival},
    host::HostTables,
    programs::{Ran, Seen, arrive},
    recipe::{Hook, Recipe},
    row::{AsBefore, Case, Exit, Fate, Key, Outcome},
    world::{SMALL, World},
};

/// Numbers of the devices, which only the kernel has.
const DEVICES: [u32; 6] = [11, 12, 13, 14, 15, 16];
const SECOND_NS: u64 = 1_000_000_000;

/// What a packet can change besides itself.
struct State {
    flows: usize,
    passed: [u64; PassReason::ALL.len()],
    tunnels: Vec<TunnelCounters>,
    others: Counters,
}

impl State {
    fn of(tables: &HostTables) -> Self {
        Self {
            flows: tables.flow_count(),
            passed: tables.pass_counters(),
            tunnels: (0..7).map(|id| tables.tunnel_counters(id)).collect(),
            others: tables.counters(),
        }
    }
}

/// Judges a row at a hook.
pub(crate) fn check(case: &Case<'_>) -> Result<(), String> {
    let mut exits = Vec::new();
    for recipes in case.runs() {
        exits.push(check_run(case, &recipes)?);
    }
    expect_eq(
        "the tunnels, if the kernel chose another",
        &exits.last(),
        &exits.first(),
    )
}

/// The tunnel that the packet took.
fn check_run(case: &Case<'_>, recipes: &[Recipe]) -> Result<Option<TunnelId>, String> {
    let fate = &case.row.fate;
    let mut tables = HostTables::new(&World::new(DEVICES), 8);
    tables.settings.mss_clamp = fate.mss_clamp;
    let (last, earlier) = recipes.split_last().ok_or("no packet")?;
    let mut before = None;
    for recipe in earlier {
        let ran = arrive(&tables, &build::arrival(recipe));
        let parsed = ran
            .parsed
            .map_err(|reason| format!("before: {}", reason.name()))?;
        before = tables.entry(&parsed.key);
        before.ok_or("before: no entry")?;
    }
    tables.now_ns += fate.wait_secs * SECOND_NS;
    let state = State::of(&tables);
    let arrival = build::arrival(last);
    let ran = arrive(&tables, &arrival);
    let now = State::of(&tables);

    check_counters(case, &arrival, &ran, &state, &now)?;
    check_bytes(case, &arrival, last, &ran)?;
    check_mark(case.hook, &ran)?;
    if case.outcome == Outcome::Ignore
        || (matches!(case.outcome, Outcome::Pass(_)) && case.hook.is_out())
    {
        return expect_eq("flows", &now.flows, &state.flows).map(|()| None);
    }
    let parsed = ran
        .parsed
        .map_err(|reason| format!("parser: {}", reason.name()))?;
    check_key(last, &parsed, fate.key)?;
    if case.unlearned {
        return expect_eq("flows", &now.flows, &state.flows).map(|()| None);
    }
    let entry = tables.entry(&parsed.key).ok_or("no entry")?;
    check_entry(fate, case.hook, last, &parsed, &entry, before.as_ref())?;
    if fate.exit == Some(Exit::Named(AsBefore::AsBefore)) {
        expect_eq("flows", &now.flows, &state.flows)?;
    }
    if let Seen::Sent(exit) = ran.seen {
        expect_eq("tunnel", &entry.tunnel, &exit.tunnel.into())?;
    }
    Ok(u8::try_from(entry.tunnel).ok())
}

fn check_counters(
    case: &Case<'_>,
    arrival: &Arrival,
    ran: &Ran,
    before: &State,
    now: &State,
) -> Result<(), String> {
    let segments = u64::from(arrival.segments);
    let mut passed = before.passed;
    match (&case.outcome, &ran.seen) {
        (Outcome::Steer, Seen::Sent(exit)) => {
            let at = usize::from(exit.tunnel);
            let (before, now) = (before.tunnels[at], now.tunnels[at]);
            expect_eq(
                "tx_packets",
                &now.tx_packets,
                &(before.tx_packets + segments),
            )?;
        }
        (Outcome::Learn, Seen::Left) | (Outcome::Forward, Seen::Forwarded(_)) => {
            let at = usize::from(arrival.device);
            let (before, now) = (before.tunnels[at], now.tunnels[at]);
            expect_eq(
                "rx_packets",
                &now.rx_packets,
                &(before.rx_packets + segments),
            )?;
        }
        (Outcome::Ignore, Seen::Left) => expect_eq("counters", &now.tunnels, &before.tunnels)?,
        (Outcome::Pass(expected), Seen::Passed(reason)) if reason.name() == expected => {
            passed[*reason as usize] += 1;
        }
        (expected, seen) => return Err(format!("{seen:?}, expected {expected:?}")),
    }
    expect_eq("pass counters", &now.passed, &passed)?;
    let unmatched = |counters: &Counters| counters.unmatched_fragments + counters.unmatched_errors;
    let fate = &case.row.fate;
    let others = Counters {
        clamped_mss: before.others.clamped_mss + u64::from(fate.tcp_options_after.is_some()),
        returned: before.others.returned + u64::from(case.outcome == Outcome::Forward),
        ..now.others
    };
    expect_eq("other counters", &now.others, &others)?;
    let expected = unmatched(&before.others) + u64::from(fate.unmatched);
    expect_eq("unmatched", &unmatched(&now.others), &expected)
}

/// In mark mode the mark is that of the tunnel; of a packet that is too big for a tunnel it is in any
/// mode, and of all others there is none.
fn check_mark(hook: Hook, ran: &Ran) -> Result<(), String> {
    let mark = |tunnel: TunnelId| (u32::from(tunnel) + 1) << 16;
    match (hook, ran.seen) {
        (Hook::Mark | Hook::MarkL3, Seen::Sent(exit)) => {
            expect_eq("mark", &ran.mark, &mark(exit.tunnel))
        }
        (hook, Seen::Passed(PassReason::TooBig)) if hook.is_out() => {
            let is_right = [0, 1, SMALL].map(mark).contains(&ran.mark);
            expect_eq("a mark of a tunnel", &is_right, &true)
        }
        _ => expect_eq("mark", &ran.mark, &0),
    }
}

/// The packet afterwards is the one before, or what a router makes of it; with an MSS that goes
/// down, of the same packet built with the lower one.
fn check_bytes(
    case: &Case<'_>,
    arrival: &Arrival,
    recipe: &Recipe,
    ran: &Ran,
) -> Result<(), String> {
    let before = match &case.row.fate.tcp_options_after {
        None => arrival.bytes.clone(),
        Some(options) => build::packet(&Recipe {
            tcp_options: options.clone(),
            ..recipe.clone()
        }),
    };
    let mac_header: Vec<u8> = match (case.hook, &case.outcome) {
        (Hook::Lan, Outcome::Steer) => {
            let kind = if recipe.ip == 6 { 0x86dd } else { 0x0800_u16 };
            [&before[..12], &kind.to_be_bytes()].concat()
        }
        (Hook::LanL3, Outcome::Steer) => Vec::new(),
        // Room, which the kernel fills.
        (_, Outcome::Forward) => vec![0; 14],
        _ => return expect_eq("bytes", &ran.bytes, &before),
    };
    let parsed = ran
        .parsed
        .map_err(|reason| format!("parser: {}", reason.name()))?;
    check_forwarded(&before, &ran.bytes, &mac_header, &parsed)
}

fn check_entry(
    fate: &Fate,
    hook: Hook,
    recipe: &Recipe,
    parsed: &Parsed,
    entry: &FlowEntry,
    before: Option<&FlowEntry>,
) -> Result<(), String> {
    match (fate.exit, before) {
        (Some(Exit::Tunnel(tunnel)), _) => expect_eq("tunnel", &entry.tunnel, &tunnel.into())?,
        (Some(Exit::Named(AsBefore::AsBefore)), Some(before)) => {
            expect_eq("tunnel", &entry.tunnel, &before.tunnel)?;
        }
        (Some(_), None) => return Err("nothing before".into()),
        (None, _) => {}
    }
    let local = if hook.is_out() {
        parsed.source
    } else {
        parsed.source.other()
    };
    expect_eq("local", &entry.local, &local)?;
    let usual = if hook.is_out() {
        Origin::Hashed
    } else {
        Origin::Learned
    };
    if let Some(origin) = &fate.origin {
        expect_eq("origin", &entry.origin.name(), &origin.as_str())?;
    } else if before.is_none() {
        expect_eq("origin", &entry.origin, &usual)?;
        if !hook.is_out() {
            expect_eq("tunnel", &entry.tunnel, &recipe.device().into())?;
        }
    }
    Ok(())
}

fn expect_eq<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, expected {expected:?}"))
}

/// The key has the row's addresses and ports, whichever endpoint comes first.
fn check_key(recipe: &Recipe, parsed: &Parsed, key: Key) -> Result<(), String> {
    let bytes = |addr| match addr {
        IpAddr::V4(addr) => mapped(addr.octets()),
        IpAddr::V6(addr) => addr.octets(),
    };
    let (src, dst) = build::addresses(recipe);
    let (from, to) = (parsed.source, parsed.source.other());
    expect_eq(
        "src_addr",
        parsed.key.addr(from),
        &bytes(key.src.unwrap_or(src)),
    )?;
    expect_eq(
        "dst_addr",
        parsed.key.addr(to),
        &bytes(key.dst.unwrap_or(dst)),
    )?;
    expect_eq("protocol", &parsed.key.protocol, &key.protocol.into())?;
    let (low, high) = (parsed.key.low_addr, parsed.key.high_addr);
    let (low_port, high_port) = (parsed.key.low_port, parsed.key.high_port);
    if let Some(id) = key.id {
        let found = u32::from(low_port) << 16 | u32::from(high_port);
        expect_eq("identifier", &found, &id)?;
        return expect_eq("sorted", &(low <= high), &true);
    }
    expect_eq(
        "ports",
        &[from, to].map(|end| parsed.key.port(end)),
        &key.ports,
    )?;
    expect_eq("sorted", &((low, low_port) <= (high, high_port)), &true)
}

/// What a router promises: one hop less, a right checksum, no tag, no padding, nothing else.
fn check_forwarded(
    before: &[u8],
    after: &[u8],
    mac_header: &[u8],
    parsed: &Parsed,
) -> Result<(), String> {
    let length = parsed.l3_len_bytes as usize;
    expect_eq("length", &after.len(), &(mac_header.len() + length))?;
    let (frame, new) = after.split_at(mac_header.len());
    expect_eq("header of the frame", &frame, &mac_header)?;
    let hops = match parsed.version {
        Version::V4 => 8,
        Version::V6 => 7,
    };
    let old = &before[parsed.l3_offset..][..length];
    expect_eq("TTL", &new[hops], &(old[hops] - 1))?;
    if parsed.version == Version::V4 {
        let header = &new[..usize::from(new[0] & 0xf) * 4];
        expect_eq("checksum", &build::checksum(header), &0)?;
    }
    for at in 0..length {
        let may_change = at == hops || (parsed.version == Version::V4 && matches!(at, 10 | 11));
        if !may_change {
            expect_eq("the rest", &new[at], &old[at])?;
        }
    }
    Ok(())
}
