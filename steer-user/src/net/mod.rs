//! The only door to netlink and WireGuard.
//!
//! Every socket opened here belongs to the network namespace of its thread at
//! that moment, so [`enter_netns`] comes before everything else.

mod device;
mod events;
mod links;
mod netfilter;
mod netns;
mod qdisc;
mod uapi;
mod wireguard;

use std::io;

pub use device::{Device, Devices, Peer, WireGuard, has_no_mac_header};
pub use events::{DeviceEvent, DeviceEvents};
pub use netfilter::{DevicePattern, DeviceSet, Finding, FindingKind, Netfilter, PacketFamily};
pub use netns::enter_netns;
pub use qdisc::{IngressQdisc, TcFilter};

/// Why the kernel did not tell or do what was asked.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum NetError {
    #[error("netlink socket: {0}")]
    Socket(#[source] io::Error),
    #[error("{what}: {cause}")]
    Request { what: String, cause: io::Error },
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
            _ => None,
        }
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
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All devices, their addresses, and what WireGuard tells about itself.
    pub async fn devices(&self) -> Result<Devices, NetError> {
        let mut devices = self.links().await?;
        wireguard::ask_all(&mut devices).await;
        Ok(Devices::new(devices))
    }
}
