//! Parallel tunnels made from one: what `steerctl tunnels plan` writes. Pure: text comes in, text
//! goes out; random bytes are given.

mod addresses;
mod conf;
mod keys;

use std::fmt::Write as _;
use std::str::FromStr;

use ipnet::IpNet;
use steer_common::abi::NAME_BYTES;

pub use conf::{Conf, ConfError, HostPort};
pub use keys::{PublicKey, Secret, Secrets, TunnelKeys};

/// What an operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelsRequest {
    /// Device name of the original.
    pub original: String,
    /// Its file, as it was given.
    pub file: String,
    /// Tunnels in all.
    pub count: usize,
    /// Whether all of them are new; else the original is one of them.
    pub all_new: bool,
    /// Where the far gateway finds this one.
    pub endpoint: Option<NearEndpoint>,
    /// Networks behind this gateway.
    pub lan: Vec<IpNet>,
    /// Networks to take the tunnels' addresses from.
    pub pools: Vec<IpNet>,
    /// Whether new tunnels have a preshared key, although the original has none.
    pub preshared: bool,
}

/// Where the far gateway finds this one: a host, and a port if it is not the one listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearEndpoint {
    /// Name or address.
    pub host: String,
    /// Port of the original.
    pub port: Option<u16>,
}

impl FromStr for NearEndpoint {
    type Err = super::ValueError;

    fn from_str(given: &str) -> Result<Self, super::ValueError> {
        let wrong = || super::ValueError::HostPort {
            given: given.to_owned(),
        };
        if let Ok(HostPort { host, port }) = given.parse() {
            return Ok(Self {
                host,
                port: Some(port),
            });
        }
        let is_v6 = given.parse::<std::net::Ipv6Addr>().is_ok();
        let is_host = !given.is_empty() && !given.contains([':', '[', ']', ' ', '#']);
        if !is_v6 && !is_host {
            return Err(wrong());
        }
        Ok(Self {
            host: given.to_owned(),
            port: None,
        })
    }
}

/// Why there is no plan. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum TunnelsError {
    #[error(transparent)]
    Conf(#[from] ConfError),
    #[error("the original has no Address")]
    NoAddress,
    #[error(
        "no room for the addresses of {count} tunnels {} {}",
        if *has_pool { "in" } else { "behind" },
        within.as_deref().unwrap_or_default()
    )]
    NoRoom {
        count: usize,
        within: Option<String>,
        has_pool: bool,
    },
    #[error("{file}: AllowedIPs hold no network behind the far gateway")]
    NothingBehind { file: String },
    #[error(
        "{file}: the peer has no Endpoint, and this gateway's is not given: no end could find the other"
    )]
    NoEndpoint { file: String },
    #[error("{file}: no ListenPort, so the far gateway cannot send to this one's --endpoint")]
    NoListenPort { file: String },
    #[error("port {port} and {more} more: ports end at 65535")]
    Ports { port: u16, more: usize },
    #[error("{name}: too long for a device, whose name has at most {} characters", NAME_BYTES - 1)]
    LongName { name: String },
    #[error("--lan {lan}: overlaps {remote}, which is behind the far gateway")]
    LanIsRemote { lan: IpNet, remote: IpNet },
}

impl TunnelsError {
    /// The likely cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Conf(error) => error.hint(),
            Self::NoAddress | Self::NoRoom { .. } => {
                Some("name a free network: --addresses 10.99.0.0/24".into())
            }
            Self::NothingBehind { .. } => {
                Some("they are what is steered: AllowedIPs = 10.9.0.2/32, 10.2.0.0/16".into())
            }
            Self::NoEndpoint { .. } => {
                Some("--endpoint gw.example.net, as the far gateway reaches this one".into())
            }
            Self::NoListenPort { .. } => {
                Some("set one in the file, or leave out --endpoint: this end dials then".into())
            }
            Self::LongName { .. } => Some("copy the file to one with a shorter name".into()),
            Self::Ports { .. } | Self::LanIsRemote { .. } => None,
        }
    }
}

/// Which gateway a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This one, that the original is of.
    Near,
    /// The other one.
    Far,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelsPlan {
    /// Device name of the original.
    pub original: String,
    /// Whether it is one of the tunnels, as it is.
    pub keeps_original: bool,
    /// The new ones.
    pub tunnels: Vec<NewTunnel>,
    /// What is behind the far gateway: what steer can steer.
    pub remote: Vec<IpNet>,
    /// Whether new tunnels have a preshared key.
    pub preshared: bool,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// A new tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTunnel {
    /// Device name, at both ends.
    pub name: String,
    /// This gateway's end.
    pub near: End,
    /// The far gateway's end.
    pub far: End,
}

/// One end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Where it listens; any port if `None`.
    pub listen_port: Option<u16>,
    /// Its MTU; as wg-quick finds it if `None`.
    pub mtu_bytes: Option<u32>,
    /// The mark of its encrypted packets.
    pub fwmark: Option<u32>,
    /// Where the other end is; `None` if that one dials.
    pub endpoint: Option<HostPort>,
    /// What may come from the other end.
    pub allowed_ips: Vec<IpNet>,
    /// How often it says that it is there.
    pub keepalive_secs: Option<u16>,
}

/// Plans parallel tunnels to the far end of one.
pub fn plan_tunnels(request: &TunnelsRequest, conf: &Conf) -> Result<TunnelsPlan, TunnelsError> {
    let file = || request.file.clone();
    let remote: Vec<IpNet> = conf
        .allowed_ips
        .iter()
        .copied()
        .filter(|network| !addresses::is_of_tunnel(*network, &conf.addresses))
        .collect();
    if remote.is_empty() {
        return Err(TunnelsError::NothingBehind { file: file() });
    }
    for lan in &request.lan {
        let overlaps = |net: &&IpNet| net.contains(lan) || lan.contains(*net);
        if let Some(remote) = remote.iter().find(overlaps) {
            let (lan, remote) = (*lan, *remote);
            return Err(TunnelsError::LanIsRemote { lan, remote });
        }
    }
    if conf.endpoint.is_none() && request.endpoint.is_none() {
        return Err(TunnelsError::NoEndpoint { file: file() });
    }
    let has_far_port = conf.listen_port.is_some();
    if request.endpoint.is_some() && !has_far_port {
        return Err(TunnelsError::NoListenPort { file: file() });
    }
    let new = request.count - usize::from(!request.all_new);
    let links = addresses::links(conf, &request.pools, new)?;
    let mut tunnels = Vec::new();
    for (index, links) in links.iter().enumerate() {
        let next = index + 1;
        let endpoint = match &conf.endpoint {
            Some(HostPort { host, port }) => Some(HostPort {
                host: host.clone(),
                port: later(*port, next, new)?,
            }),
            None => None,
        };
        let listen_port = conf.listen_port.map(|port| later(port, next, new));
        let listen_port = listen_port.transpose()?;
        let near_endpoint = match (&request.endpoint, conf.listen_port) {
            (Some(NearEndpoint { host, port }), Some(listen)) => Some(HostPort {
                host: host.clone(),
                port: later(port.unwrap_or(listen), next, new)?,
            }),
            _ => None,
        };
        let host = |network: IpNet| IpNet::from(network.addr());
        let far_hosts = links.iter().map(|link| host(link.far));
        let near_hosts = links.iter().map(|link| host(link.near));
        tunnels.push(NewTunnel {
            name: name_after(&request.original, next)?,
            near: End {
                addresses: links.iter().map(|link| link.near).collect(),
                listen_port,
                mtu_bytes: conf.mtu_bytes,
                fwmark: conf.fwmark,
                allowed_ips: far_hosts.chain(remote.iter().copied()).collect(),
                keepalive_secs: conf.keepalive_secs,
                endpoint: endpoint.clone(),
            },
            far: End {
                addresses: links.iter().map(|link| link.far).collect(),
                listen_port: endpoint.map(|endpoint| endpoint.port),
                mtu_bytes: conf.mtu_bytes,
                fwmark: None,
                allowed_ips: near_hosts.chain(request.lan.iter().copied()).collect(),
                keepalive_secs: None,
                endpoint: near_endpoint,
            },
        });
    }
    Ok(TunnelsPlan {
        original: request.original.clone(),
        keeps_original: !request.all_new,
        tunnels,
        notes: notes(request, conf, &remote),
        remote,
        preshared: conf.has_preshared_key || request.preshared,
    })
}

/// A port counted on.
fn later(port: u16, next: usize, new: usize) -> Result<u16, TunnelsError> {
    let next = u16::try_from(next).ok();
    next.and_then(|next| port.checked_add(next))
        .ok_or(TunnelsError::Ports { port, more: new })
}

/// `wg2` for the second after `wg0`; `office1` for the first after `office`.
fn name_after(original: &str, next: usize) -> Result<String, TunnelsError> {
    let digits = original
        .bytes()
        .rev()
        .take_while(u8::is_ascii_digit)
        .count();
    let (stem, number) = original.split_at(original.len() - digits);
    let number = number.parse::<usize>().unwrap_or(0).saturating_add(next);
    let name = format!("{stem}{number}");
    if name.len() < NAME_BYTES {
        Ok(name)
    } else {
        Err(TunnelsError::LongName { name })
    }
}

/// What an operator should know of the plan.
fn notes(request: &TunnelsRequest, conf: &Conf, remote: &[IpNet]) -> Vec<String> {
    let mut notes = Vec::new();
    for (line, key) in &conf.own {
        notes.push(format!("{}:{line}: {key} is not copied", request.file));
    }
    for own in &conf.addresses {
        if let Some(prefix) = remote.iter().find(|net| net.contains(&own.addr())) {
            notes.push(format!(
                "AllowedIPs {prefix} hold this end's tunnel address {}: steer it in smaller prefixes",
                own.addr()
            ));
        }
    }
    if request.lan.is_empty() {
        notes.push(
            "the far files allow the tunnels' own addresses only: give --lan, or add the networks behind this gateway to their AllowedIPs"
                .into(),
        );
    }
    match (&conf.endpoint, &request.endpoint) {
        (Some(_), None) => {
            let until = match conf.keepalive_secs {
                Some(_) => "",
                None => "; without PersistentKeepalive that is when it has something to send",
            };
            notes.push(format!(
                "no --endpoint: this end dials, the far end waits for it{until}"
            ));
        }
        (None, Some(_)) => notes.push("no Endpoint in the file: the far end dials".into()),
        _ => {}
    }
    notes
}

impl NewTunnel {
    /// The file for one side.
    pub fn text(&self, side: Side, keys: &TunnelKeys, secrets: Secrets, from: &str) -> String {
        let (end, own, other, word) = match side {
            Side::Near => (&self.near, &keys.near, &keys.far, "near"),
            Side::Far => (&self.far, &keys.far, &keys.near, "far"),
        };
        let join = |networks: &[IpNet]| {
            let texts: Vec<_> = networks.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        let mut out = format!(
            "# {}, {word} end, parallel to {from}; made by steerctl tunnels plan\n[Interface]\n",
            self.name
        );
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{key} = {value}");
            }
        };
        line("Address", Some(join(&end.addresses)));
        line("PrivateKey", Some(own.text(secrets)));
        line("ListenPort", end.listen_port.map(|port| port.to_string()));
        line("MTU", end.mtu_bytes.map(|mtu| mtu.to_string()));
        line("FwMark", end.fwmark.map(|mark| format!("{mark:#x}")));
        line("Table", Some("off".into()));
        out.push_str("\n[Peer]\n");
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(out, "{key} = {value}");
            }
        };
        line("PublicKey", Some(other.public().to_string()));
        line(
            "PresharedKey",
            keys.preshared.as_ref().map(|key| key.text(secrets)),
        );
        line("Endpoint", end.endpoint.as_ref().map(ToString::to_string));
        line("AllowedIPs", Some(join(&end.allowed_ips)));
        line(
            "PersistentKeepalive",
            end.keepalive_secs.map(|secs| secs.to_string()),
        );
        out
    }
}

#[cfg(test)]
mod tests;
