//! What policy rules and routes have in common: families, and what is steer's.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netlink_packet_route::AddressFamily;
use rtnetlink::IpVersion;

use super::NetError;

/// Who made a rule or route (`FRA_PROTOCOL`, `RTPROT_…`): steer.
///
/// The kernel keeps the number and gives it no meaning; nobody registered this
/// one. Whatever carries it, and lies in the caller's [`OwnRouting`], is steer's,
/// also after a crash.
pub const ROUTE_PROTOCOL: u8 = 87;

/// An address family. The kernel has rules and tables of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn number(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }

    pub(super) fn version(self) -> IpVersion {
        match self {
            Self::V4 => IpVersion::V4,
            Self::V6 => IpVersion::V6,
        }
    }

    /// Whether this error says that the kernel does not know the family.
    pub(super) fn is_unknown(self, error: &NetError) -> bool {
        self == Self::V6 && matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP))
    }
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The preferences and routing tables that belong to one steer.
///
/// [`ROUTE_PROTOCOL`] tells steer's rules and routes from all others; this tells
/// those of two steers in one network namespace from each other. Such two must
/// have different preferences or different tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRouting {
    /// Preferences of its rules.
    pub prefs: RangeInclusive<u32>,
    /// Tables that its rules look up and that hold its routes.
    pub tables: RangeInclusive<u32>,
}
