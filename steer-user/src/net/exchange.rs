//! One question and its answer on a netlink socket of their own, for messages
//! that rtnetlink does not know.

use std::io;

use futures_util::StreamExt;
use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_proto::sys::SocketAddr;

use super::listing::{Tries, interrupted, is_interrupted};

/// Sends a message to the kernel and collects all parts of the answer; again, if it is a listing that changed
/// meanwhile.
///
/// `flags` has to hold `NLM_F_DUMP` or `NLM_F_ACK`: these have an end even if a part
/// of the answer cannot be read.
pub(super) async fn exchange<T>(
    protocol: isize,
    message: NetlinkMessage<T>,
    flags: u16,
) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable
        + NetlinkDeserializable
        + Clone
        + std::fmt::Debug
        + Unpin
        + Send
        + 'static,
{
    let mut tries = Tries::default();
    loop {
        match exchange_once(protocol, message.clone(), flags).await {
            Err(error) if tries.is_left(&error) => {}
            result => return result,
        }
    }
}

async fn exchange_once<T>(
    protocol: isize,
    mut message: NetlinkMessage<T>,
    flags: u16,
) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug + Unpin + Send + 'static,
{
    let (connection, handle, _) = netlink_proto::new_connection::<T>(protocol)?;
    let server = tokio::spawn(connection);
    message.header.flags = NLM_F_REQUEST | flags;
    let mut answers = handle
        .request(message, SocketAddr::new(0, 0))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut parts = Vec::new();
    let mut result = Ok(());
    while let Some(answer) = answers.next().await {
        if is_interrupted(&answer.header) {
            result = Err(interrupted());
        }
        match answer.payload {
            NetlinkPayload::InnerMessage(part) => parts.push(part),
            NetlinkPayload::Error(error) if error.code.is_some() => result = Err(error.to_io()),
            NetlinkPayload::Overrun(_) => {
                result = Err(io::Error::other("the answer was too long for the socket"));
            }
            _ => {}
        }
    }
    server.abort();
    result.map(|()| parts)
}
