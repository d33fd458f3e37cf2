//! One question and its answer on a netlink socket of their own: for messages
//! that rtnetlink does not know, and for listings that must be whole.

use std::io;

use futures_util::{Stream, StreamExt};
use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_proto::sys::SocketAddr;

use super::listing::{TRIES, interrupted, is_interrupted};

/// Sends a message to the kernel and collects all parts of the answer.
///
/// `flags` has to hold `NLM_F_DUMP` or `NLM_F_ACK`: these have an end even if a part
/// of the answer cannot be read. A listing is of one moment: what changes meanwhile
/// may make the kernel leave something out, which it says (`NLM_F_DUMP_INTR`).
pub(super) async fn exchange<T>(
    protocol: isize,
    mut message: NetlinkMessage<T>,
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
    message.header.flags = NLM_F_REQUEST | flags;
    let (mut connection, handle, _) = netlink_proto::new_connection::<T>(protocol)?;
    // It may be the only part that says that the listing is not whole.
    connection.set_forward_done(true);
    let server = tokio::spawn(connection);
    let mut result = Err(interrupted());
    for _ in 0..TRIES {
        let answers = handle
            .request(message.clone(), SocketAddr::new(0, 0))
            .map_err(|error| io::Error::other(error.to_string()))?;
        result = collect(answers).await;
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            break;
        }
    }
    server.abort();
    result
}

/// The parts of one answer.
async fn collect<T>(
    mut answers: impl Stream<Item = NetlinkMessage<T>> + Unpin,
) -> io::Result<Vec<T>> {
    let mut parts = Vec::new();
    let mut result = Ok(());
    while let Some(answer) = answers.next().await {
        if is_interrupted(&answer.header) {
            result = result.and(Err(interrupted()));
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
    result.map(|()| parts)
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, stream};
    use netlink_packet_core::{
        DoneMessage, ErrorMessage, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NetlinkHeader,
    };

    use super::*;

    fn message(payload: NetlinkPayload<u8>, flags: u16) -> NetlinkMessage<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = NLM_F_MULTIPART | flags;
        message
    }

    fn part(number: u8, flags: u16) -> NetlinkMessage<u8> {
        message(NetlinkPayload::InnerMessage(number), flags)
    }

    fn done(flags: u16) -> NetlinkMessage<u8> {
        message(NetlinkPayload::Done(DoneMessage::default()), flags)
    }

    fn collected(answers: Vec<NetlinkMessage<u8>>) -> io::Result<Vec<u8>> {
        let collected = collect(stream::iter(answers)).now_or_never();
        collected.expect("all is there")
    }

    #[test]
    fn a_listing_is_whole_or_an_error() {
        let whole = collected(vec![part(1, 0), part(2, 0), done(0)]);
        assert_eq!(whole.expect("whole"), [1, 2]);
        for answers in [
            vec![part(1, 0), part(2, NLM_F_DUMP_INTR), part(3, 0), done(0)],
            vec![part(1, 0), part(2, 0), done(NLM_F_DUMP_INTR)],
        ] {
            let error = collected(answers).expect_err("something may be left out");
            assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        }
        let mut refused = ErrorMessage::default();
        refused.code = std::num::NonZeroI32::new(-libc::EPERM);
        let refused = message(NetlinkPayload::Error(refused), NLM_F_DUMP_INTR);
        let error = collected(vec![refused]).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
