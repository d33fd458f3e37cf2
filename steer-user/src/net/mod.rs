//! The only door to netlink, to WireGuard, and to the sysctls of the network.
//!
//! Every socket opened here belongs to the network namespace of its thread at
//! that moment, so [`enter_netns`] comes before everything else.

mod device;
mod echo;
mod events;
mod exchange;
mod ipsec;
mod links;
mod listing;
mod lookup;
mod marks;
mod netfilter;
mod netns;
mod nexthop;
pub mod offload;
mod qdisc;
mod route_events;
mod route_names;
mod route_table;
mod routes;
mod routing;
mod rule;
mod rules;
pub mod sysctl;
mod uapi;
mod wireguard;
mod xdp;

use std::io;

pub use device::{Device, Devices, Master, MasterKind, Peer, Vlan, WireGuard, has_no_mac_header};
pub use echo::Echo;
pub use events::{DeviceEvent, DeviceEvents};
pub use ipsec::{IpsecPolicy, ipsec_policies};
pub use lookup::{KernelRoute, PacketOrigin, RouteQuery};
pub use marks::{MarkUser, mark_users};
pub use netfilter::{DevicePattern, DeviceSet, Finding, FindingKind, Netfilter, PacketFamily};
pub use netns::enter_netns;
pub use nexthop::NextHop;
pub use qdisc::{IngressQdisc, TcFilter};
pub use route_events::RouteEvents;
pub use route_names::RouteNames;
pub use route_table::{Hop, Leads, Noted, Place, ROUTE_TABLE_MAIN, Route, RouteNotice, RouteTable};
pub use routes::{NoRoute, RouteOutcome, TunnelRoute};
pub use routing::{Family, OwnRouting, ROUTE_PROTOCOL};
pub use rule::{MarkRule, Rule, RuleAction};
pub use rules::RuleChanges;
pub use wireguard::ask as ask_wireguard;
pub use xdp::XdpProgram;

/// Why the kernel did not tell or do what was asked.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum NetError {
    #[error("netlink socket: {0}")]
    Socket(#[source] io::Error),
    #[error("{what}: {cause}")]
    Request { what: String, cause: io::Error },
    #[error("{cause}{}", aftermath(undone, left))]
    Undone {
        cause: Box<NetError>,
        /// Done before the failure, and undone after it.
        undone: Vec<String>,
        /// Done before the failure, and still there.
        left: Vec<String>,
    },
    #[error("{family} routing table {table}: it has a default route that is not steer's")]
    ForeignRoute { family: Family, table: u32 },
    #[error("sysctl {name}: {cause}")]
    Sysctl { name: String, cause: io::Error },
    #[error("network namespace {name}: {cause}")]
    Netns {
        name: String,
        cause: io::Error,
        existing: Vec<String>,
    },
}

impl NetError {
    /// The likely cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Netns { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
                Some("this needs root (CAP_SYS_ADMIN)".into())
            }
            Self::Netns { existing, .. } if existing.is_empty() => {
                Some("there are no named namespaces; see ip netns add".into())
            }
            Self::Netns { existing, .. } => Some(format!("existing: {}", existing.join(", "))),
            Self::ForeignRoute { family, table } => {
                let version = if *family == Family::V6 { "-6 " } else { "" };
                Some(format!("ip {version}route show table {table}"))
            }
            Self::Sysctl { name, cause } if cause.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Some(format!(
                    "/proc/sys is read-only here; set {name} from outside"
                ))
            }
            Self::Undone { cause, .. } if cause.errno() == Some(libc::EAFNOSUPPORT) => {
                Some("the kernel needs policy routing (CONFIG_IP_MULTIPLE_TABLES)".into())
            }
            _ => None,
        }
    }

    /// The kernel's error number, if it is one of the kernel's errors.
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Request { cause, .. } => cause.raw_os_error(),
            _ => None,
        }
    }

    /// Whether something changed while it was listed, again and again.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Request { cause, .. } if cause.kind() == io::ErrorKind::Interrupted)
    }

    pub(crate) fn request(what: impl Into<String>, error: rtnetlink::Error) -> Self {
        let cause = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Self::Request {
            what: what.into(),
            cause,
        }
    }
}

/// The name of a device, or its number where there is no such device any more.
pub fn device_name(ifindex: u32) -> String {
    let name = nix::net::if_::if_indextoname(ifindex);
    let name = name.map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|_| format!("device {ifindex}"))
}

fn aftermath(undone: &[String], left: &[String]) -> String {
    let clause = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("; {what}: {}", names.join(", ")),
    };
    clause("added before, removed again", undone)
        + &clause("added before, could not be removed", left)
}

/// A route netlink connection of the current network namespace.
///
/// Needs a tokio runtime with I/O; the connection is served by a task of it.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Connects.
    pub fn connect() -> Result<Self, NetError> {
        // "Strict" makes a listing hold what was asked for only. Without it the
        // kernel tells of all routes, and there may be a million.
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(NetError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All devices, their addresses, and what WireGuard tells about itself.
    pub async fn devices(&self) -> Result<Devices, NetError> {
        let mut devices = links::all().await?;
        wireguard::ask_all(&mut devices).await;
        Ok(Devices::new(devices))
    }
}

/// One attribute of a netlink message as the kernel writes it.
#[cfg(test)]
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).expect("short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
