//! How a flow is written: its protocol, and its ends with their ports or identifier.

use std::net::IpAddr;
use std::str::FromStr;

use steer_common::key;

use super::ValueError;

/// IP protocols with names, for typing and for showing.
const PROTOCOLS: [(&str, u8); 12] = [
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// An IP protocol by name or number.
pub fn protocol(given: &str) -> Result<u8, ValueError> {
    let name = given.to_ascii_lowercase();
    PROTOCOLS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
        .or_else(|| given.parse().ok())
        .ok_or_else(|| ValueError::Protocol {
            given: given.into(),
        })
}

/// The name of an IP protocol, or its number.
pub fn protocol_name(number: u8) -> String {
    PROTOCOLS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| number.to_string(), |(name, _)| (*name).into())
}

/// What sets the flows of a protocol between two addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowNumbers {
    /// A port at each end.
    Ports,
    /// The identifier of an ICMP echo, if it is one: 16 bits, the same at both ends.
    Echo,
    /// A number of 32 bits: SPI, key or session.
    Number,
    /// Nothing.
    None,
}

impl FlowNumbers {
    /// Those of a protocol.
    pub fn of(protocol: u8) -> Self {
        match protocol {
            6 | 17 | 33 | 132 | 136 => Self::Ports,
            1 | 58 => Self::Echo,
            number if key::has_number(number) => Self::Number,
            _ => Self::None,
        }
    }

    /// The largest.
    pub fn max(self) -> u32 {
        match self {
            Self::Ports | Self::Echo => u16::MAX.into(),
            Self::Number => u32::MAX,
            Self::None => 0,
        }
    }
}

/// `ADDR[:NUMBER]`; the number is a port, or the identifier of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEndpoint {
    /// Address.
    pub addr: IpAddr,
    /// Port or identifier, if given.
    pub number: Option<u32>,
}

impl FromStr for FlowEndpoint {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        let bare = given
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(given);
        if let Ok(addr) = bare.parse() {
            return Ok(Self { addr, number: None });
        }
        let refused = || ValueError::Endpoint {
            given: given.into(),
        };
        let (addr, text) = given.rsplit_once(':').ok_or_else(refused)?;
        let addr = match addr
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(v6) => v6.parse().map(IpAddr::V6),
            None => addr.parse().map(IpAddr::V4),
        };
        Ok(Self {
            addr: addr.map_err(|_| refused())?,
            number: Some(number(text).ok_or_else(refused)?),
        })
    }
}

/// Decimal, or hexadecimal with `0x`. `from_str_radix` would take a sign.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, radix).ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols() {
        assert_eq!(protocol("TCP"), Ok(6));
        assert_eq!(protocol("89"), Ok(89));
        let error = protocol("quic").expect_err("no protocol");
        assert_eq!(error.to_string(), "protocol \"quic\" is not known");
        assert!(protocol("256").is_err());
        assert_eq!(protocol_name(132), "sctp");
        assert_eq!(protocol_name(89), "89");
        for (name, numbers) in [
            ("udp", FlowNumbers::Ports),
            ("icmp", FlowNumbers::Echo),
            ("icmpv6", FlowNumbers::Echo),
            ("esp", FlowNumbers::Number),
            ("ah", FlowNumbers::Number),
            ("gre", FlowNumbers::Number),
            ("l2tp", FlowNumbers::Number),
            ("ipv6", FlowNumbers::None),
        ] {
            assert_eq!(protocol(name).map(FlowNumbers::of), Ok(numbers), "{name}");
        }
    }

    #[test]
    fn endpoints() {
        let end = |addr: &str, number| FlowEndpoint {
            addr: addr.parse().expect("address"),
            number,
        };
        for (given, expected) in [
            ("10.1.0.2", end("10.1.0.2", None)),
            ("10.1.0.2:80", end("10.1.0.2", Some(80))),
            ("10.1.0.2:0x1001", end("10.1.0.2", Some(0x1001))),
            ("10.1.0.2:4294967295", end("10.1.0.2", Some(u32::MAX))),
            ("fd00::1", end("fd00::1", None)),
            ("[fd00::1]", end("fd00::1", None)),
            ("[fd00::1]:80", end("fd00::1", Some(80))),
        ] {
            assert_eq!(given.parse(), Ok(expected), "{given}");
        }
        for given in [
            "host:80",
            "10.1.0.2:",
            "10.1.0.2:0x",
            "10.1.0.2:+1",
            "10.1.0.2:ff",
            "10.1.0.2:4294967296",
            "[10.1.0.2]:80",
            "",
        ] {
            let error = given.parse::<FlowEndpoint>().expect_err(given);
            assert_eq!(
                error.to_string(),
                format!("{given:?} is not an address with or without a port or identifier")
            );
        }
    }
}
