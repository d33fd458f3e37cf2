//! The clsact qdisc and its filters. Filters are attached by the datapath;
//! this only looks, and removes the qdisc that steer made.

use futures_util::TryStreamExt;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::{NetError, Netlink};

/// What sits where clsact would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngressQdisc {
    /// Nothing.
    Absent,
    /// A clsact qdisc.
    Clsact,
    /// Another one, `ingress` usually, which excludes clsact.
    Other(String),
}

/// A filter of a clsact qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcFilter {
    /// Whether it looks at what enters the device, or at what leaves it.
    pub ingress: bool,
    /// `bpf`, `flower`, …
    pub kind: String,
    /// Priority; lower comes first.
    pub priority: u16,
    /// Handle within the priority.
    pub handle: u32,
    /// The kernel's number of its program, if it is a `bpf` filter.
    pub program_id: Option<u32>,
}

impl Netlink {
    /// What sits where clsact would on this device.
    pub async fn ingress_qdisc(&self, ifindex: u32) -> Result<IngressQdisc, NetError> {
        let index = tc_index(ifindex)?;
        let mut qdiscs = self.handle.qdisc().get().index(index).execute();
        let mut found = IngressQdisc::Absent;
        while let Some(message) = qdiscs
            .try_next()
            .await
            .map_err(|error| NetError::request(format!("qdiscs of device {ifindex}"), error))?
        {
            // Before 5.x the kernel ignores the index in a dump.
            if message.header.index != index || message.header.parent != TcHandle::CLSACT {
                continue;
            }
            found = match kind(&message) {
                "clsact" => IngressQdisc::Clsact,
                other => IngressQdisc::Other(other.to_owned()),
            };
        }
        Ok(found)
    }

    /// The filters of this device's clsact qdisc, anybody's.
    pub async fn clsact_filters(&self, ifindex: u32) -> Result<Vec<TcFilter>, NetError> {
        let index = tc_index(ifindex)?;
        let mut filters = Vec::new();
        for ingress in [true, false] {
            let request = self.handle.traffic_filter(index).get();
            let request = if ingress {
                request.ingress()
            } else {
                request.egress()
            };
            let mut messages = request.execute();
            while let Some(message) = messages
                .try_next()
                .await
                .map_err(|error| NetError::request(format!("filters of device {ifindex}"), error))?
            {
                let handle = u32::from(message.header.handle);
                // Each priority is announced by one message without a handle.
                if handle == 0 || message.header.index != index {
                    continue;
                }
                filters.push(TcFilter {
                    ingress,
                    kind: kind(&message).to_owned(),
                    priority: priority(message.header.info),
                    handle,
                    program_id: program_id(&message),
                });
            }
        }
        Ok(filters)
    }

    /// Removes this device's clsact qdisc with all filters in it.
    ///
    /// Only for a qdisc that steer made and that holds nobody's filter.
    pub async fn delete_clsact(&self, ifindex: u32) -> Result<(), NetError> {
        let mut request = self.handle.qdisc().del(tc_index(ifindex)?);
        let message = request.message_mut();
        message.header.parent = TcHandle::CLSACT;
        message.header.handle = TcHandle {
            major: u16::MAX,
            minor: 0,
        };
        message.attributes.push(TcAttribute::Kind("clsact".into()));
        request
            .execute()
            .await
            .map_err(|error| NetError::request(format!("clsact of device {ifindex}"), error))
    }
}

/// `tcm_info` holds the priority in its upper half.
fn priority(info: u32) -> u16 {
    u16::try_from(info >> 16).unwrap_or(u16::MAX)
}

fn tc_index(ifindex: u32) -> Result<i32, NetError> {
    i32::try_from(ifindex).map_err(|_| NetError::Request {
        what: format!("device {ifindex}"),
        cause: std::io::ErrorKind::InvalidInput.into(),
    })
}

fn program_id(message: &TcMessage) -> Option<u32> {
    let options = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
    options.iter().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
        _ => None,
    })
}

fn kind(message: &TcMessage) -> &str {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.as_str()),
            _ => None,
        })
        .unwrap_or("?")
}
