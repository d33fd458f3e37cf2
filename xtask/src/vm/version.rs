//! Versions of kernels: as they are asked for, and as packages have them.

use std::{cmp::Ordering, iter};

/// As a wanted version: whatever is the newest.
pub(crate) const NEWEST: &str = "newest";

/// A version that can be asked for: `6.1`, a package's in full, or the newest.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let mut parts = text.split('.');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-~+".contains(c);
    let is_version = numbers(text).is_some_and(|_| text.chars().all(is_plain))
        && is_number(parts.next())
        && parts.all(|part| is_number(Some(part)));
    if is_version || text == NEWEST {
        Ok(text.to_owned())
    } else {
        Err("not a version; for example 6.1, 6.1.192-2, newest".to_owned())
    }
}

/// The first two numbers of a version.
pub(crate) fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The newest of these versions that is one of `wanted`.
pub(crate) fn newest_of(versions: &[String], wanted: &str) -> Option<String> {
    versions
        .iter()
        .filter(|version| is_of(version, wanted))
        .max_by(|a, b| compare(a, b))
        .cloned()
}

/// Whether a package's version is of a kernel's: `6.1.192-2` is 6.1, and is not 6.19.
fn is_of(version: &str, wanted: &str) -> bool {
    wanted == NEWEST
        || version
            .strip_prefix(wanted)
            .is_some_and(|rest| rest.is_empty() || !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Debian's order (deb-version(7)): by turns what is no number, and numbers. `~` comes before the end,
/// so that `6.12.117-1~deb12u1`, made from `6.12.117-1`, is older.
fn compare(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (word_a, word_b) = (split(&mut a, false), split(&mut b, false));
        let (number_a, number_b) = (split(&mut a, true), split(&mut b, true));
        let order = weights(word_a)
            .cmp(weights(word_b))
            .then_with(|| value(number_a).cmp(&value(number_b)));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the digits from the front of `text`, or what is before the next digit.
fn split<'a>(text: &mut &'a str, digits: bool) -> &'a str {
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    let (front, rest) = text.split_at(end);
    *text = rest;
    front
}

fn value(digits: &str) -> u64 {
    digits.parse().unwrap_or(0)
}

/// The places of characters in Debian's order: `~`, the end, letters, all others.
fn weights(word: &str) -> impl Iterator<Item = (u8, char)> {
    word.chars()
        .map(|c| match c {
            '~' => (0, c),
            c if c.is_ascii_alphabetic() => (2, c),
            c => (3, c),
        })
        .chain(iter::once((1, ' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_can_be_asked_for() {
        for good in ["6.1", "6.12", "newest", "6.1.192-2", "7.3.4-1~bpo13+1"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "6",
            "6.",
            "6.x",
            "6..1",
            "v6.1",
            "latest",
            "6.1 ",
            "6.1/../..",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_in_debians_order() {
        let order = [
            "6.1.9-1",
            "6.1.176-1",
            "6.12~rc7-1",
            "6.12-1",
            "6.12.117-1~bpo12+1",
            "6.12.117-1~deb12u1",
            "6.12.117-1",
            "6.12.117-1+b1",
            "6.12.117-2",
        ];
        for pair in order.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("6.1-1", "6.1-1"), Ordering::Equal);
    }

    #[test]
    fn the_newest_of_a_version_is_taken() {
        let versions = ["6.1.192-2", "6.1.176-1", "7.3.4-1~bpo13+1"].map(str::to_owned);
        assert_eq!(newest_of(&versions, "6.1").as_deref(), Some("6.1.192-2"));
        assert_eq!(
            newest_of(&versions, "6.1.176").as_deref(),
            Some("6.1.176-1")
        );
        assert_eq!(
            newest_of(&versions, NEWEST).as_deref(),
            Some("7.3.4-1~bpo13+1")
        );
        assert_eq!(newest_of(&versions, "6.12"), None);
        assert_eq!(newest_of(&versions, "6.19"), None);
        assert!(!is_of("6.19.3-1", "6.1"));
    }
}
