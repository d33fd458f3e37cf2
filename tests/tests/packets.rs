//! The packet table on the host: `steer-common` over plain maps.

use std::collections::BTreeSet;

use steer_common::{
    abi::{Origin, PassReason, Placer},
    decide::Verdict,
    key::mapped,
    parse::{Parsed, Version},
};
use steer_tests::packets::{
    build,
    host::{HostTables, ingress, learned, parsed},
    row::{self, Expect, Flow, Layer, Row},
    world::World,
};

/// Numbers of the devices, which only the kernel has.
const DEVICES: [u32; 5] = [11, 12, 13, 14, 15];

#[test]
fn every_row() {
    let rows = row::all().expect("the packet table");
    println!("{} rows", rows.len());
    assert!(rows.len() >= 80, "{} rows", rows.len());
    let world = World::new(DEVICES);
    let failures: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let bytes = build::packet(row);
            let failure = check(&world, row, &bytes).err()?;
            Some(format!(
                "{}: {failure}\n  {row:?}\n  {bytes:02x?}",
                row.name
            ))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_reason_has_a_row() {
    let rows = row::all().expect("the packet table");
    let reasons: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| match row.expect {
            Expect::Pass(reason) => Some(reason.name()),
            _ => None,
        })
        .collect();
    for reason in PassReason::ALL {
        // Helpers fail for want of memory only, which no packet brings about.
        if reason != PassReason::RewriteFailed {
            assert!(reasons.contains(reason.name()), "{}", reason.name());
        }
    }
}

#[test]
fn every_name_is_used_once() {
    let rows = row::all().expect("the packet table");
    let mut names = BTreeSet::new();
    for row in rows {
        assert!(
            names.insert((row.layer == Layer::Network, row.ip, row.name.clone())),
            "{}",
            row.name
        );
    }
}

/// Judges one row in a fresh world.
fn check(world: &World, row: &Row, bytes: &[u8]) -> Result<(), String> {
    let tables = HostTables::new(world, 8);
    match row.expect {
        Expect::Pass(reason) => {
            let outcome = ingress(&tables, bytes);
            expect_eq("verdict", &outcome.verdict, &Verdict::Pass(reason))?;
            expect_eq("bytes", &outcome.bytes, &bytes.to_vec())?;
            expect_eq("passed", &tables.pass_counters()[reason as usize], &1)?;
            expect_eq("flows", &tables.flow_count(), &0)
        }
        Expect::Redirect(flow) => {
            let outcome = ingress(&tables, bytes);
            let Verdict::Redirect(exit) = outcome.verdict else {
                return Err(format!("verdict {:?}", outcome.verdict));
            };
            let parsed = outcome.parsed.ok_or("not parsed")?;
            check_key(row, &parsed, flow)?;
            check_forwarded(bytes, &outcome.bytes, &parsed)?;
            let entry = tables.entry(&parsed.key).ok_or("no entry")?;
            expect_eq("tunnel", &entry.tunnel, &exit.tunnel.into())?;
            expect_eq("origin", &entry.origin, &Origin::Hashed)?;
            expect_eq("local", &entry.local, &parsed.source)?;
            let counters = tables.tunnel_counters(exit.tunnel);
            expect_eq("tx_packets", &counters.tx_packets, &1)?;
            expect_eq("tx_bytes", &counters.tx_bytes, &parsed.l3_len_bytes.into())?;
            expect_eq("new_flows", &counters.new_flows, &1)
        }
        Expect::Learn(flow) => {
            learned(&tables, bytes, 1);
            let parsed =
                parsed(steer_common::parse::Layer::Network, bytes).map_err(PassReason::name)?;
            check_key(row, &parsed, flow)?;
            let entry = tables.entry(&parsed.key).ok_or("nothing learned")?;
            expect_eq("tunnel", &entry.tunnel, &1)?;
            expect_eq("origin", &entry.origin, &Origin::Learned)?;
            expect_eq("placer", &entry.placer, &Placer::Far)?;
            expect_eq("local", &entry.local, &parsed.source.other())?;
            expect_eq("rx_packets", &tables.tunnel_counters(1).rx_packets, &1)
        }
        Expect::Ignore => {
            learned(&tables, bytes, 1);
            expect_eq("flows", &tables.flow_count(), &0)?;
            expect_eq("rx_packets", &tables.tunnel_counters(1).rx_packets, &0)
        }
    }
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
fn check_key(row: &Row, parsed: &Parsed, flow: Flow) -> Result<(), String> {
    let bytes = |addr| match addr {
        std::net::IpAddr::V4(addr) => mapped(addr.octets()),
        std::net::IpAddr::V6(addr) => addr.octets(),
    };
    let (src, dst) = build::addresses(row);
    let (from, to) = (parsed.source, parsed.source.other());
    expect_eq("src_addr", parsed.key.addr(from), &bytes(src))?;
    expect_eq("dst_addr", parsed.key.addr(to), &bytes(dst))?;
    expect_eq("src_port", &parsed.key.port(from), &flow.src_port)?;
    expect_eq("dst_port", &parsed.key.port(to), &flow.dst_port)?;
    expect_eq("protocol", &parsed.key.protocol, &flow.protocol.into())?;
    let low = (parsed.key.low_addr, parsed.key.low_port);
    let high = (parsed.key.high_addr, parsed.key.high_port);
    expect_eq("sorted", &(low <= high), &true)
}

/// What a router promises: one hop less, a right checksum, no tag, no padding, nothing else.
fn check_forwarded(before: &[u8], after: &[u8], parsed: &Parsed) -> Result<(), String> {
    let length = parsed.l3_len_bytes as usize;
    expect_eq("length", &after.len(), &(14 + length))?;
    expect_eq("addresses of the frame", &&after[..12], &&before[..12])?;
    let (kind, hops) = match parsed.version {
        Version::V4 => ([0x08, 0x00], 8),
        Version::V6 => ([0x86, 0xdd], 7),
    };
    expect_eq("type of the frame", &&after[12..14], &&kind[..])?;
    let old = &before[parsed.l3_offset..][..length];
    let new = &after[14..];
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
