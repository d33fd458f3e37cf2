//! Requests to the netfilter subsystems of netlink, and their answers.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::attributes::Attributes;
use super::malformed;

/// The kernel fills at most 32 KiB at once.
const BUFFER_BYTES: usize = 64 << 10;
const HEADER_BYTES: usize = 16;
/// `struct nfgenmsg`: family, version, resource.
const FAMILY_HEADER_BYTES: usize = 4;

/// A connection to netfilter of this thread's network namespace.
pub(super) struct Nfnetlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Nfnetlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Asks for one thing.
    pub(super) fn get(
        &mut self,
        kind: u16,
        each: impl FnMut(u8, Attributes) -> io::Result<()>,
    ) -> io::Result<()> {
        self.request(kind, 0, 0, &[], each)
    }

    /// Asks for all things of a kind and family, 0 being all families. `each`
    /// gets the family and attributes of every part of the answer.
    ///
    /// An error of the kind `Interrupted`: they changed meanwhile, and the
    /// parts do not belong together.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        family: u8,
        attributes: &[u8],
        each: impl FnMut(u8, Attributes) -> io::Result<()>,
    ) -> io::Result<()> {
        self.request(kind, NLM_F_DUMP, family, attributes, each)
    }

    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        attributes: &[u8],
        mut each: impl FnMut(u8, Attributes) -> io::Result<()>,
    ) -> io::Result<()> {
        self.sequence += 1;
        let length = HEADER_BYTES + FAMILY_HEADER_BYTES + attributes.len();
        let mut message = vec![0; length];
        let mut header = NetlinkBuffer::new(&mut message);
        header.set_length(u32::try_from(length).map_err(|_| malformed())?);
        header.set_message_type(kind);
        header.set_flags(NLM_F_REQUEST | flags);
        header.set_sequence_number(self.sequence);
        message[HEADER_BYTES] = family;
        message[HEADER_BYTES + FAMILY_HEADER_BYTES..].copy_from_slice(attributes);
        let kernel = NetlinkAddr::new(0, 0);
        let socket = self.socket.as_raw_fd();
        sendto(socket, &message, &kernel, MsgFlags::empty())?;
        loop {
            let length = match recv(socket, &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            if finished(&self.buffer[..length], self.sequence, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Goes through the messages of one datagram; whether the answer ends here.
fn finished(
    mut datagram: &[u8],
    sequence: u32,
    each: &mut impl FnMut(u8, Attributes) -> io::Result<()>,
) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(|_| malformed())?;
        let length = message.payload_length() + HEADER_BYTES;
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        if message.sequence_number() != sequence {
            continue;
        }
        if message.flags() & NLM_F_DUMP_INTR != 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let payload = message.payload();
        match message.message_type() {
            // Both begin with an errno; 0 is success.
            NLMSG_DONE | NLMSG_ERROR => {
                let errno = payload.first_chunk().ok_or_else(malformed)?;
                return match i32::from_ne_bytes(*errno).saturating_neg() {
                    0 => Ok(true),
                    // The kernel's own word for "changed meanwhile".
                    libc::EINTR => Err(io::ErrorKind::Interrupted.into()),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
            _ => {
                let (header, attributes) = payload
                    .split_first_chunk::<FAMILY_HEADER_BYTES>()
                    .ok_or_else(malformed)?;
                each(header[0], Attributes::new(attributes))?;
                if message.flags() & NLM_F_MULTIPART == 0 {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::attributes::build;
    use super::*;

    const SEQUENCE: u32 = 5;
    const ANY_KIND: u16 = 0x0A03;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(payload);
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_length(u32::try_from(HEADER_BYTES + payload.len()).expect("short"));
        header.set_message_type(kind);
        header.set_flags(flags);
        header.set_sequence_number(sequence);
        bytes
    }

    fn part(flags: u16, family: u8, value: u32) -> Vec<u8> {
        let payload = [vec![family, 0, 0, 0], build::number(1, value)].concat();
        message(ANY_KIND, flags, SEQUENCE, &payload)
    }

    fn end(kind: u16, flags: u16, errno: i32) -> Vec<u8> {
        message(kind, flags, SEQUENCE, &(-errno).to_ne_bytes())
    }

    /// What `finished` says of a datagram, and the numbers in its parts.
    fn read(datagram: &[u8]) -> (io::Result<bool>, Vec<(u8, u32)>) {
        let mut parts = Vec::new();
        let result = finished(datagram, SEQUENCE, &mut |family, attributes| {
            parts.extend(attributes.number(1)?.map(|number| (family, number)));
            Ok(())
        });
        (result, parts)
    }

    #[test]
    fn parts_until_done() {
        let multi = NLM_F_MULTIPART;
        let two = [part(multi, 1, 7), part(multi, 2, 8)].concat();
        let (result, parts) = read(&two);
        assert!(!result.expect("sound"));
        assert_eq!(parts, [(1, 7), (2, 8)]);
        let last = [part(multi, 1, 9), end(NLMSG_DONE, multi, 0)].concat();
        let (result, parts) = read(&last);
        assert!(result.expect("sound"));
        assert_eq!(parts, [(1, 9)]);
    }

    #[test]
    fn a_single_answer_ends_itself() {
        let (result, parts) = read(&part(0, 0, 7));
        assert!(result.expect("sound"));
        assert_eq!(parts, [(0, 7)]);
    }

    #[test]
    fn a_change_meanwhile() {
        for datagram in [
            part(NLM_F_MULTIPART | NLM_F_DUMP_INTR, 1, 7),
            end(NLMSG_DONE, NLM_F_MULTIPART | NLM_F_DUMP_INTR, 0),
            end(NLMSG_DONE, NLM_F_MULTIPART, libc::EINTR),
        ] {
            let error = read(&datagram).0.expect_err("interrupted");
            assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        }
    }

    #[test]
    fn errors() {
        for kind in [NLMSG_DONE, NLMSG_ERROR] {
            let error = read(&end(kind, 0, libc::EPERM)).0.expect_err("refused");
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        }
        let whole = part(0, 1, 7);
        for length in 1..whole.len() {
            assert!(read(&whole[..length]).0.is_err(), "cut off at {length}");
        }
        let other = message(NLMSG_ERROR, 0, SEQUENCE - 1, &(-1i32).to_ne_bytes());
        assert!(
            !read(&other).0.expect("of another request"),
            "not the end of this one"
        );
    }
}
