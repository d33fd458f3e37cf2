//! Reading the configuration of a tunnel as wg-quick(8) does. Pure.
//!
//! What steer does not know it does not pass over: the line is named. The private key and the
//! preshared key are not kept.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;

use super::PublicKey;

/// The configuration of one tunnel with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// `Address`, with the prefix lengths of their networks.
    pub addresses: Vec<IpNet>,
    /// `ListenPort`.
    pub listen_port: Option<u16>,
    /// `MTU`.
    pub mtu_bytes: Option<u32>,
    /// `FwMark`.
    pub fwmark: Option<u32>,
    /// `Table`, whatever it says.
    pub table: Option<String>,
    /// `PublicKey` of the peer.
    pub peer: PublicKey,
    /// Whether there is a `PresharedKey`.
    pub has_preshared_key: bool,
    /// `AllowedIPs`.
    pub allowed_ips: Vec<IpNet>,
    /// `Endpoint`.
    pub endpoint: Option<HostPort>,
    /// `PersistentKeepalive` in seconds.
    pub keepalive_secs: Option<u16>,
    /// Keys that stand for this tunnel only, and their lines: commands, name servers.
    pub own: Vec<(usize, String)>,
}

/// A host and a UDP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; one of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(given: &str) -> Result<Self, ()> {
        let (host, port) = given.rsplit_once(':').ok_or(())?;
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_name = |host: &str| !host.is_empty() && !host.contains([':', '[', ']', ' ']);
        let host = match inner {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            None if is_name(host) => host,
            _ => return Err(()),
        };
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().ok().filter(|port| *port != 0).ok_or(())?,
        })
    }
}

/// Why a configuration is not understood, or not one that steer can make more of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum ConfError {
    #[error("{file}:{line}: not [Interface], [Peer] or KEY = VALUE")]
    Line { file: String, line: usize },
    #[error("{file}:{line}: {key} is before any section")]
    NoSection {
        file: String,
        line: usize,
        key: String,
    },
    #[error("{file}:{line}: unknown key {key} in [{section}]")]
    UnknownKey {
        file: String,
        line: usize,
        key: String,
        section: &'static str,
    },
    #[error("{file}:{line}: {key} is given twice")]
    Twice {
        file: String,
        line: usize,
        key: &'static str,
    },
    /// Without the value, which may be a key.
    #[error("{file}:{line}: {key} is not {wanted}")]
    Value {
        file: String,
        line: usize,
        key: &'static str,
        wanted: &'static str,
    },
    #[error("{file}:{line}: a second [Peer]: which of them is the far gateway is not known")]
    SecondPeer { file: String, line: usize },
    #[error("{file}:{line}: AllowedIPs hold the default route {prefix}, which cannot be steered")]
    DefaultRoute {
        file: String,
        line: usize,
        prefix: IpNet,
    },
    #[error("{file}: {what} is missing")]
    Missing { file: String, what: &'static str },
}

impl ConfError {
    /// The likely cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { .. } => {
                Some("keys are those of wg(8) and wg-quick(8); take others out of a copy".into())
            }
            Self::SecondPeer { .. } => Some(
                "steer spreads flows over tunnels to one gateway: give each peer a device and a file of its own first"
                    .into(),
            ),
            Self::DefaultRoute { .. } => Some(
                "name the networks behind the far gateway in its place: AllowedIPs = 10.2.0.0/16"
                    .into(),
            ),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Interface,
    Peer,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Self::Interface => "Interface",
            Self::Peer => "Peer",
        }
    }
}

/// Keys by section, as they are written.
const KEYS: [(Section, &[&str]); 2] = [
    (
        Section::Interface,
        &[
            "PrivateKey",
            "ListenPort",
            "FwMark",
            "Address",
            "DNS",
            "MTU",
            "Table",
            "PreUp",
            "PostUp",
            "PreDown",
            "PostDown",
            "SaveConfig",
        ],
    ),
    (
        Section::Peer,
        &[
            "PublicKey",
            "PresharedKey",
            "AllowedIPs",
            "Endpoint",
            "PersistentKeepalive",
        ],
    ),
];

/// What was read so far.
#[derive(Default)]
struct Reader {
    addresses: Vec<IpNet>,
    listen_port: Option<u16>,
    mtu_bytes: Option<u32>,
    fwmark: Option<u32>,
    table: Option<String>,
    has_private_key: bool,
    peer: Option<PublicKey>,
    has_preshared_key: bool,
    allowed_ips: Vec<IpNet>,
    endpoint: Option<HostPort>,
    keepalive_secs: Option<u16>,
    own: Vec<(usize, String)>,
    /// Keys of one value that were there.
    seen: Vec<&'static str>,
}

impl Conf {
    /// Reads the text of `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfError> {
        let mut reader = Reader::default();
        let mut section = None;
        let (mut has_interface, mut has_peer) = (false, false);
        for (index, line) in text.lines().enumerate() {
            let at = At {
                file,
                line: index + 1,
            };
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if line.starts_with('[') {
                section = Some(at.section(line)?);
                match section {
                    Some(Section::Interface) => has_interface = true,
                    _ if has_peer => return Err(at.second_peer()),
                    _ => has_peer = true,
                }
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(|| at.line())?;
            let (key, value) = (key.trim(), value.trim());
            let section = section.ok_or_else(|| at.no_section(key))?;
            let key = at.known(section, key)?;
            reader.note(at, key, value)?;
        }
        let missing = |what| ConfError::Missing {
            file: file.to_owned(),
            what,
        };
        if !has_interface || !reader.has_private_key {
            return Err(missing("[Interface] with a PrivateKey"));
        }
        Ok(Self {
            peer: reader
                .peer
                .ok_or_else(|| missing("[Peer] with a PublicKey"))?,
            addresses: reader.addresses,
            listen_port: reader.listen_port,
            mtu_bytes: reader.mtu_bytes,
            fwmark: reader.fwmark,
            table: reader.table,
            has_preshared_key: reader.has_preshared_key,
            allowed_ips: reader.allowed_ips,
            endpoint: reader.endpoint,
            keepalive_secs: reader.keepalive_secs,
            own: reader.own,
        })
    }
}

impl Reader {
    fn note(&mut self, at: At<'_>, key: &'static str, value: &str) -> Result<(), ConfError> {
        let is_list = matches!(
            key,
            "Address" | "AllowedIPs" | "DNS" | "PreUp" | "PostUp" | "PreDown" | "PostDown"
        );
        if !is_list {
            if self.seen.contains(&key) {
                return Err(at.twice(key));
            }
            self.seen.push(key);
        }
        let wrong = |wanted| Err(at.value(key, wanted));
        match key {
            "PrivateKey" | "PresharedKey" => {
                if key_bytes(value).is_none() {
                    return wrong(KEY);
                }
                self.has_private_key |= key == "PrivateKey";
                self.has_preshared_key |= key == "PresharedKey";
            }
            "PublicKey" => match key_bytes(value) {
                Some(bytes) => self.peer = Some(PublicKey(bytes)),
                None => return wrong(KEY),
            },
            "Address" => {
                for part in list(value) {
                    match network(part) {
                        Some(network) => self.addresses.push(network),
                        None => return wrong("a list of addresses"),
                    }
                }
            }
            "AllowedIPs" => {
                for part in list(value) {
                    let Some(network) = network(part) else {
                        return wrong("a list of networks");
                    };
                    if network.prefix_len() == 0 {
                        return Err(at.default_route(network));
                    }
                    let network = network.trunc();
                    if !self.allowed_ips.contains(&network) {
                        self.allowed_ips.push(network);
                    }
                }
            }
            "ListenPort" => match value.parse() {
                // 0 asks the kernel for any.
                Ok(0) => {}
                Ok(port) => self.listen_port = Some(port),
                Err(_) => return wrong("a port"),
            },
            "MTU" => match value.parse() {
                Ok(mtu @ 576..=65_535) => self.mtu_bytes = Some(mtu),
                _ => return wrong("a number in 576 to 65535"),
            },
            "FwMark" => match mark(value) {
                Some(mark) => self.fwmark = Some(mark).filter(|mark| *mark != 0),
                None => return wrong("a number or off"),
            },
            "Table" => self.table = Some(value.to_owned()),
            "Endpoint" => match value.parse() {
                Ok(endpoint) => self.endpoint = Some(endpoint),
                Err(()) => return wrong("HOST:PORT"),
            },
            "PersistentKeepalive" => match value.parse() {
                Ok(0) => {}
                Ok(secs) => self.keepalive_secs = Some(secs),
                Err(_) if value.eq_ignore_ascii_case("off") => {}
                Err(_) => return wrong("a number of seconds or off"),
            },
            _ => self.own.push((at.line, key.to_owned())),
        }
        Ok(())
    }
}

const KEY: &str = "a key in base64";

fn key_bytes(value: &str) -> Option<[u8; 32]> {
    STANDARD.decode(value).ok()?.try_into().ok()
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// An address without a length is a host.
fn network(part: &str) -> Option<IpNet> {
    part.parse().ok().or_else(|| {
        part.parse()
            .ok()
            .map(|address: std::net::IpAddr| address.into())
    })
}

fn mark(value: &str) -> Option<u32> {
    if value.eq_ignore_ascii_case("off") {
        return Some(0);
    }
    match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

/// A place in the file.
#[derive(Clone, Copy)]
struct At<'a> {
    file: &'a str,
    line: usize,
}

impl At<'_> {
    fn section(self, line: &str) -> Result<Section, ConfError> {
        [Section::Interface, Section::Peer]
            .into_iter()
            .find(|section| line.eq_ignore_ascii_case(&format!("[{}]", section.name())))
            .ok_or_else(|| self.line())
    }

    /// The key as it is usually written.
    fn known(self, section: Section, given: &str) -> Result<&'static str, ConfError> {
        KEYS.iter()
            .filter(|(of, _)| *of == section)
            .flat_map(|(_, keys)| keys.iter())
            .find(|key| key.eq_ignore_ascii_case(given))
            .copied()
            .ok_or_else(|| ConfError::UnknownKey {
                file: self.file.to_owned(),
                line: self.line,
                key: given.to_owned(),
                section: section.name(),
            })
    }

    fn line(self) -> ConfError {
        ConfError::Line {
            file: self.file.to_owned(),
            line: self.line,
        }
    }

    fn no_section(self, key: &str) -> ConfError {
        ConfError::NoSection {
            file: self.file.to_owned(),
            line: self.line,
            key: key.to_owned(),
        }
    }

    fn twice(self, key: &'static str) -> ConfError {
        ConfError::Twice {
            file: self.file.to_owned(),
            line: self.line,
            key,
        }
    }

    fn value(self, key: &'static str, wanted: &'static str) -> ConfError {
        ConfError::Value {
            file: self.file.to_owned(),
            line: self.line,
            key,
            wanted,
        }
    }

    fn second_peer(self) -> ConfError {
        ConfError::SecondPeer {
            file: self.file.to_owned(),
            line: self.line,
        }
    }

    fn default_route(self, prefix: IpNet) -> ConfError {
        ConfError::DefaultRoute {
            file: self.file.to_owned(),
            line: self.line,
            prefix,
        }
    }
}

#[cfg(test)]
mod tests;
