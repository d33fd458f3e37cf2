//! Devices as rules name them.

use std::collections::BTreeSet;
use std::fmt;

use super::text;

/// A device name in a rule, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DevicePattern {
    /// This device: `wg0`.
    Name(String),
    /// Every device whose name begins so: `wg*`, in iptables `wg+`.
    Prefix(String),
}

impl DevicePattern {
    /// The pattern of compared bytes: with the final zero it is a whole name,
    /// without it the beginning of one.
    pub(super) fn compared(bytes: &[u8]) -> Self {
        if bytes.contains(&0) {
            Self::Name(text(bytes))
        } else {
            Self::Prefix(text(bytes))
        }
    }

    fn matches(&self, device: &str) -> bool {
        match self {
            Self::Name(name) => name == device,
            Self::Prefix(prefix) => device.starts_with(prefix.as_str()),
        }
    }

    /// The devices that match both; patterns overlap only if one contains the other.
    fn intersection(&self, other: &Self) -> Option<Self> {
        let contains = |outer: &Self, inner: &Self| match inner {
            Self::Name(name) => outer.matches(name),
            Self::Prefix(prefix) => matches!(outer, Self::Prefix(_)) && outer.matches(prefix),
        };
        if contains(self, other) {
            Some(other.clone())
        } else {
            contains(other, self).then(|| self.clone())
        }
    }
}

impl fmt::Display for DevicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// A set of devices as rules name them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceSet {
    /// Whatever device, also where a rule says it in a way that is not understood.
    Any,
    /// Those that match one of the patterns.
    Only(BTreeSet<DevicePattern>),
}

impl DeviceSet {
    /// Whether the device of this name belongs to it.
    pub fn contains(&self, device: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(device)),
        }
    }

    pub(super) const fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    pub(super) fn one(pattern: DevicePattern) -> Self {
        Self::Only(BTreeSet::from([pattern]))
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::Only(patterns) if patterns.is_empty())
    }

    /// Adds all of `other`; whether that added anything.
    pub(super) fn widen(&mut self, other: &Self) -> bool {
        match (&mut *self, other) {
            (Self::Any, _) => false,
            (Self::Only(_), Self::Any) => {
                *self = Self::Any;
                true
            }
            (Self::Only(ours), Self::Only(theirs)) => {
                let before = ours.len();
                ours.extend(theirs.iter().cloned());
                ours.len() > before
            }
        }
    }

    /// The devices in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, set) | (set, Self::Any) => set.clone(),
            (Self::Only(ours), Self::Only(theirs)) => Self::Only(
                ours.iter()
                    .flat_map(|pattern| {
                        theirs
                            .iter()
                            .filter_map(|other| pattern.intersection(other))
                    })
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(patterns: &[&[u8]]) -> DeviceSet {
        DeviceSet::Only(
            patterns
                .iter()
                .map(|bytes| DevicePattern::compared(bytes))
                .collect(),
        )
    }

    #[test]
    fn names_and_beginnings() {
        assert!(set(&[b"wg0\0\0\0"]).contains("wg0"));
        assert!(!set(&[b"wg0\0"]).contains("wg01"));
        assert!(set(&[b"wg"]).contains("wg01"));
        assert!(!set(&[b"wg"]).contains("w"));
        assert!(!DeviceSet::none().contains("wg0"));
        assert!(DeviceSet::Any.contains("wg0"));
        assert_eq!(DevicePattern::compared(b"wg").to_string(), "wg*");
        assert_eq!(DevicePattern::compared(b"wg\0").to_string(), "wg");
    }

    #[test]
    fn intersections() {
        let wg = set(&[b"wg", b"eth0\0"]);
        let check = |other: DeviceSet, expected: DeviceSet| {
            assert_eq!(wg.intersection(&other), expected);
            assert_eq!(other.intersection(&wg), expected);
        };
        check(DeviceSet::Any, wg.clone());
        check(set(&[b"wg0\0", b"lan0\0"]), set(&[b"wg0\0"]));
        check(set(&[b"wg1"]), set(&[b"wg1"]));
        check(set(&[b"w"]), set(&[b"wg"]));
        check(set(&[b"eth"]), set(&[b"eth0\0"]));
        check(set(&[b"wg\0"]), set(&[b"wg\0"]));
        check(set(&[b"eth\0"]), DeviceSet::none());
    }

    #[test]
    fn widening_says_whether_it_added() {
        let mut devices = set(&[b"wg0\0"]);
        assert!(!devices.widen(&set(&[b"wg0\0"])));
        assert!(devices.widen(&set(&[b"wg1\0"])));
        assert_eq!(devices, set(&[b"wg0\0", b"wg1\0"]));
        assert!(devices.widen(&DeviceSet::Any));
        assert!(!devices.widen(&set(&[b"wg2\0"])));
        assert_eq!(devices, DeviceSet::Any);
    }
}
