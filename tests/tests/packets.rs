//! The packet table on the host: `steer-common` over plain maps.

#[path = "packets/judge.rs"]
mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use steer_common::abi::PassReason;
use steer_tests::packets::{
    document,
    recipe::Hook,
    row::{Outcome, PacketTable},
};

fn table() -> PacketTable {
    PacketTable::read().expect("the packet table")
}

#[test]
fn every_row() {
    let table = table();
    let mut tried: BTreeMap<Hook, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in table.cases() {
        *tried.entry(case.hook).or_default() += 1;
        if let Err(failure) = judge::check(&case) {
            failures.push(format!("{}: {failure}", case.name()));
        }
    }
    let cases: usize = tried.values().sum();
    println!("{} rows, {cases} cases: {tried:?}", table.rows().count());
    assert!(table.rows().count() >= 300);
    assert!(
        failures.is_empty(),
        "{} of {cases} cases fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_reason_has_a_row() {
    let table = table();
    let found: BTreeSet<String> = table
        .cases()
        .filter_map(|case| match case.outcome {
            Outcome::Pass(reason) => Some(reason),
            _ => None,
        })
        .collect();
    let reasons = PassReason::ALL.into_iter();
    let expected: BTreeSet<String> = reasons
        // Helpers fail for want of memory only, which no packet brings about.
        .filter(|reason| *reason != PassReason::RewriteFailed)
        .map(|reason| reason.name().into())
        .collect();
    assert_eq!(found, expected);
}

/// A row that is tried nowhere proves nothing, and neither does an outcome of a kind that no row
/// brings about.
#[test]
fn every_outcome_has_a_row() {
    let table = table();
    let mut tried: BTreeSet<(&str, Hook)> = BTreeSet::new();
    for (_, row) in table.rows() {
        let kind = table.kind(row).expect("a kind");
        let cases = row.cases(kind);
        assert!(!cases.is_empty(), "{:?}: tried nowhere", row.fate);
        for hook in &row.fate.on {
            let is_tried = cases.iter().any(|(tried, _)| tried == hook);
            assert!(
                is_tried,
                "{:?}: its kind does nothing on {hook:?}",
                row.fate
            );
        }
        tried.extend(cases.into_iter().map(|(hook, _)| (&kind.name[..], hook)));
    }
    for kind in table.kinds() {
        for hook in [
            Hook::Lan,
            Hook::Mark,
            Hook::Egress,
            Hook::Tunnel,
            Hook::Return,
        ] {
            let has_row = tried.contains(&(&kind.name[..], hook));
            assert_eq!(
                kind.outcome(hook).is_some(),
                has_row,
                "{} on {hook:?}",
                kind.name
            );
        }
    }
}

#[test]
fn every_name_is_used_once() {
    let table = table();
    let mut names = BTreeSet::new();
    for (_, row) in table.rows() {
        let fate = &row.fate;
        let is_new = names.insert((&fate.kind, row.recipe.ip, &fate.name));
        assert!(is_new, "{}: {} twice", fate.kind, fate.name);
    }
    let kinds: BTreeSet<_> = table.kinds().map(|kind| &kind.name).collect();
    assert_eq!(kinds.len(), table.kinds().count());
}

/// The tables of the document are those of the rows.
#[test]
fn the_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/packets.md");
    let found = fs::read_to_string(&path).expect("docs/packets.md");
    let (by_hand, _) = found
        .split_once(document::MARKER)
        .expect("the line behind which the tables start");
    let wanted = [by_hand, document::MARKER, &document::tables(&table())].concat();
    if env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, wanted).expect("docs/packets.md is written");
        return;
    }
    for (number, (found, wanted)) in found.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(found, wanted, "docs/packets.md, line {}", number + 1);
    }
    assert_eq!(found.lines().count(), wanted.lines().count());
}
