//! The values that an operator types: tunnels, weights, prefixes, seeds and
//! times, with errors that name what is wrong with them.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use steer_common::abi::{MSS_MIN, NAME_BYTES, TUNNEL_ID_MAX, TunnelId};

use super::{MssClamp, RATE_MAX};

/// The largest weight.
pub const WEIGHT_MAX: u32 = 65_535;

/// The largest MSS: what fits an IPv4 packet behind two headers without options.
const MSS_MAX: u32 = 65_495;

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum ValueError {
    #[error("tunnel {given:?} is not NAME, NAME=WEIGHT or NAME=WEIGHT@ID")]
    Tunnel { given: String },
    #[error("{given:?} is not NAME=WEIGHT")]
    WeightMissing { given: String },
    #[error("{given:?} is not a device name: 1 to {} characters without space and slash", NAME_BYTES - 1)]
    DeviceName { given: String },
    #[error(
        "{given:?} is not a group name: 1 to {} letters, digits, dots, dashes and underscores",
        NAME_BYTES - 1
    )]
    GroupName { given: String },
    #[error("weight of {tunnel}: {given:?} is not a number")]
    WeightNotANumber { tunnel: String, given: String },
    #[error("weight of {tunnel}: {given} is not in 0 to {WEIGHT_MAX}")]
    WeightRange { tunnel: String, given: String },
    #[error("id of {tunnel}: {given:?} is not a number in 0 to {TUNNEL_ID_MAX}")]
    Id { tunnel: String, given: String },
    #[error("prefix {given:?} is not an address and a length like 10.2.0.0/16 or fd00:2::/64")]
    Prefix { given: String },
    #[error("prefix {given} has bits set behind its length")]
    PrefixHostBits { given: IpNet },
    #[error("seed {given:?} is not a number up to 2^64-1")]
    Seed { given: String },
    #[error("idle time {given:?} is not a time")]
    Idle { given: String },
    #[error("idle time {given:?}: {protocol:?} is not tcp, closing, udp or other")]
    IdleProtocol { given: String, protocol: String },
    #[error("idle time {given:?} is not between 1 second and 30 days")]
    IdleRange { given: String },
    #[error("mark mask {given:?} is not a hexadecimal number with its bits next to each other")]
    MarkMask { given: String },
    #[error("MSS clamp {given:?} is not auto, off or a number in {MSS_MIN} to {MSS_MAX}")]
    MssClamp { given: String },
    #[error("rate {given:?} is not a number in 1 to {RATE_MAX}, per second")]
    Rate { given: String },
    #[error("{given:?} is not a time")]
    Time { given: String },
    #[error("{given:?} is not a time to look back, nor a moment")]
    Since { given: String },
    #[error("probe interval {given:?} is not a time between 20ms and 10s")]
    ProbeInterval { given: String },
    #[error("probe target {given:?} is not NAME=ADDR with the address of one host")]
    ProbeTarget { given: String },
    #[error("protocol {given:?} is not known")]
    Protocol { given: String },
    #[error("{given:?} is not an address with or without a port or identifier")]
    Endpoint { given: String },
    #[error("endpoint {given:?} is not a host or HOST:PORT")]
    HostPort { given: String },
}

impl ValueError {
    /// The likely cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tunnel { .. } => Some("for example --tunnel wg0=3 or --tunnel wg0=3@0".into()),
            Self::WeightMissing { .. } => Some("for example: steerctl weights wg0=3 wg1=1".into()),
            Self::PrefixHostBits { given } => Some(format!("the network is {}", given.trunc())),
            Self::Seed { .. } => Some("decimal, or hexadecimal with 0x".into()),
            Self::Idle { .. } | Self::IdleProtocol { .. } | Self::IdleRange { .. } => {
                Some("for example --idle 30m or --idle tcp=2h,udp=5m".into())
            }
            Self::MarkMask { .. } => Some("for example --mark-mask 0xff0000".into()),
            Self::MssClamp { .. } => {
                Some("for example --mss-clamp auto or --mss-clamp 1380".into())
            }
            Self::Rate { .. } => Some("for example --rate 500/s".into()),
            Self::Time { .. } => Some("for example 90s, 10m or 1h30m".into()),
            Self::Since { .. } => {
                Some("for example --since 10m or --since 2026-02-03T14:05:00Z".into())
            }
            Self::ProbeInterval { .. } => Some("for example --probe-interval 500ms".into()),
            Self::ProbeTarget { .. } => Some("for example --probe-target wg0=10.9.0.2".into()),
            Self::Protocol { .. } => Some(
                "tcp, udp, udplite, sctp, dccp, icmp, icmpv6, gre, esp, ah, l2tp or a number to 255"
                    .into(),
            ),
            Self::HostPort { .. } => {
                Some("for example gw.example.net, 192.0.2.1:51820 or [2001:db8::1]:51820".into())
            }
            Self::Endpoint { .. } => {
                Some("for example 10.1.0.2, 10.1.0.2:40000, fd00::2 or [fd00::2]:40000".into())
            }
            _ => None,
        }
    }
}

/// A device name that the kernel could accept (`dev_valid_name`, `net/core/dev.c`).
pub fn device_name(given: &str) -> Result<String, ValueError> {
    let valid = !given.is_empty()
        && given.len() < NAME_BYTES
        && given != "."
        && given != ".."
        && !given.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
    if valid {
        Ok(given.into())
    } else {
        Err(ValueError::DeviceName {
            given: given.into(),
        })
    }
}

/// A group name.
pub fn group_name(given: &str) -> Result<String, ValueError> {
    let valid = !given.is_empty()
        && given.len() < NAME_BYTES
        && given
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if valid {
        Ok(given.into())
    } else {
        Err(ValueError::GroupName {
            given: given.into(),
        })
    }
}

fn weight(tunnel: &str, given: &str) -> Result<u32, ValueError> {
    // -1 and 99999999999 are numbers, so they are told the range.
    let digits = given.strip_prefix('-').unwrap_or(given);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ValueError::WeightNotANumber {
            tunnel: tunnel.into(),
            given: given.into(),
        });
    }
    match given.parse::<u32>() {
        Ok(weight) if weight <= WEIGHT_MAX => Ok(weight),
        _ => Err(ValueError::WeightRange {
            tunnel: tunnel.into(),
            given: given.into(),
        }),
    }
}

fn id(tunnel: &str, given: &str) -> Result<TunnelId, ValueError> {
    match given.parse::<TunnelId>() {
        Ok(id) if id <= TUNNEL_ID_MAX => Ok(id),
        _ => Err(ValueError::Id {
            tunnel: tunnel.into(),
            given: given.into(),
        }),
    }
}

/// `NAME[=WEIGHT][@ID]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSpec {
    /// Device name.
    pub name: String,
    /// Weight, if given.
    pub weight: Option<u32>,
    /// Id, if given.
    pub id: Option<TunnelId>,
}

impl FromStr for TunnelSpec {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        let (rest, id_text) = match given.split_once('@') {
            Some((rest, text)) => (rest, Some(text)),
            None => (given, None),
        };
        let (name, weight_text) = match rest.split_once('=') {
            Some((name, text)) => (name, Some(text)),
            None => (rest, None),
        };
        if name.is_empty() {
            return Err(ValueError::Tunnel {
                given: given.into(),
            });
        }
        let name = device_name(name)?;
        Ok(Self {
            weight: weight_text.map(|text| weight(&name, text)).transpose()?,
            id: id_text.map(|text| id(&name, text)).transpose()?,
            name,
        })
    }
}

/// `NAME=WEIGHT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightSpec {
    /// Tunnel name.
    pub name: String,
    /// Its new weight.
    pub weight: u32,
}

impl FromStr for WeightSpec {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        let (name, text) = given
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| ValueError::WeightMissing {
                given: given.into(),
            })?;
        Ok(Self {
            weight: weight(name, text)?,
            name: device_name(name)?,
        })
    }
}

/// A prefix in CIDR notation; host bits are refused, not dropped.
pub fn prefix(given: &str) -> Result<IpNet, ValueError> {
    let network: IpNet = given.parse().map_err(|_| ValueError::Prefix {
        given: given.into(),
    })?;
    if network.addr() == network.network() {
        Ok(network)
    } else {
        Err(ValueError::PrefixHostBits { given: network })
    }
}

/// A seed: decimal, or hexadecimal with `0x`.
pub fn seed(given: &str) -> Result<u64, ValueError> {
    let parsed = match given
        .strip_prefix("0x")
        .or_else(|| given.strip_prefix("0X"))
    {
        // `from_str_radix` would take a sign.
        Some(hex) if hex.starts_with('+') => None,
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => given.parse().ok(),
    };
    parsed.ok_or_else(|| ValueError::Seed {
        given: given.into(),
    })
}

/// Idle time-outs that the operator wants, each `None` where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleSpec {
    /// For every protocol not named.
    pub all: Option<Duration>,
    /// TCP.
    pub tcp: Option<Duration>,
    /// TCP after FIN or RST.
    pub closing: Option<Duration>,
    /// UDP and UDP-Lite.
    pub udp: Option<Duration>,
    /// All other protocols.
    pub other: Option<Duration>,
}

impl IdleSpec {
    /// What is said here, and for the rest what is said there. A time for every protocol leaves no rest.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        if self.all.is_some() {
            return self;
        }
        Self {
            all: other.all,
            tcp: self.tcp.or(other.tcp),
            closing: self.closing.or(other.closing),
            udp: self.udp.or(other.udp),
            other: self.other.or(other.other),
        }
    }
}

impl FromStr for IdleSpec {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        let mut spec = Self::default();
        for part in given.split(',') {
            let (protocol, text) = match part.split_once('=') {
                Some((protocol, text)) => (Some(protocol.trim()), text),
                None => (None, part),
            };
            let time = humantime::parse_duration(text.trim()).map_err(|_| ValueError::Idle {
                given: given.into(),
            })?;
            if time < Duration::from_secs(1) || time > Duration::from_hours(30 * 24) {
                return Err(ValueError::IdleRange {
                    given: given.into(),
                });
            }
            let slot = match protocol {
                None => &mut spec.all,
                Some("tcp") => &mut spec.tcp,
                Some("closing") => &mut spec.closing,
                Some("udp") => &mut spec.udp,
                Some("other") => &mut spec.other,
                Some(protocol) => {
                    return Err(ValueError::IdleProtocol {
                        given: given.into(),
                        protocol: protocol.into(),
                    });
                }
            };
            *slot = Some(time);
        }
        Ok(spec)
    }
}

/// A length of time, such as `10m`.
pub fn time(given: &str) -> Result<Duration, ValueError> {
    humantime::parse_duration(given.trim()).map_err(|_| ValueError::Time {
        given: given.into(),
    })
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// As long ago.
    Ago(Duration),
    /// From that moment on.
    At(SystemTime),
}

impl FromStr for Since {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        let text = given.trim();
        let ago = humantime::parse_duration(text).map(Self::Ago);
        let at = || humantime::parse_rfc3339_weak(text).map(Self::At);
        ago.or_else(|_| at()).map_err(|_| ValueError::Since {
            given: given.into(),
        })
    }
}

impl FromStr for MssClamp {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        match given {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            number => match number.parse() {
                // `parse` would take a sign.
                Ok(mss @ MSS_MIN..=MSS_MAX) if !number.starts_with('+') => Ok(Self::At(mss)),
                _ => Err(ValueError::MssClamp {
                    given: given.into(),
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests;
