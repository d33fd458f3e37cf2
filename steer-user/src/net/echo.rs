//! ICMP and `ICMPv6` echo through one device, from one address to one other.
//!
//! The sockets are raw and bound to the device (`CAP_NET_RAW`): the kernel has no choice of another one,
//! and what comes in by others is none of theirs.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Header, Icmpv6Slice, Icmpv6Type,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

/// What follows the header: the token, and the number of the request.
const PAYLOAD_BYTES: usize = 16;
/// IPv4 header with options, header of the echo, payload.
const ANSWER_BYTES_MAX: usize = 60 + 8 + PAYLOAD_BYTES;

/// Asks one address through one device whether it is there.
///
/// Belongs to the network namespace of the thread that made it, and to a tokio runtime with I/O.
#[derive(Debug)]
pub struct Echo {
    socket: AsyncFd<Socket>,
    is_ipv4: bool,
    /// Tells these echoes from those of other programs.
    id: u16,
    /// Tells an answer from what somebody made up.
    token: u64,
}

impl Echo {
    /// Echoes from `source` to `target` by the device of that name; over so many hops at most, if that is given.
    pub fn open(
        device: &str,
        source: IpAddr,
        target: IpAddr,
        hops: Option<u8>,
        token: u64,
    ) -> io::Result<Self> {
        let is_ipv4 = target.is_ipv4();
        let (domain, protocol) = if is_ipv4 {
            (Domain::IPV4, Protocol::ICMPV4)
        } else {
            (Domain::IPV6, Protocol::ICMPV6)
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        let [.., high, low] = token.to_be_bytes();
        let id = u16::from_be_bytes([high, low]);
        socket.attach_filter(&only_answers(is_ipv4, id))?;
        socket.bind_device(Some(device.as_bytes()))?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        match hops.map(u32::from) {
            Some(hops) if is_ipv4 => socket.set_ttl_v4(hops)?,
            Some(hops) => socket.set_unicast_hops_v6(hops)?,
            None => {}
        }
        // From now on the kernel takes packets from nobody else.
        socket.connect(&SocketAddr::new(target, 0).into())?;
        Ok(Self {
            // SAFETY: the socket owns its descriptor, and is neither replaced nor closed while registered.
            socket: unsafe { AsyncFd::register(socket) }?,
            is_ipv4,
            id,
            token,
        })
    }

    /// Sends a request of this number. An error may be that of an earlier one.
    pub fn send(&self, number: u64) -> io::Result<()> {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&self.token.to_be_bytes());
        payload[8..].copy_from_slice(&number.to_be_bytes());
        let [.., high, low] = number.to_be_bytes();
        let header = IcmpEchoHeader {
            id: self.id,
            seq: u16::from_be_bytes([high, low]),
        };
        let mut message = if self.is_ipv4 {
            let kind = Icmpv4Type::EchoRequest(header);
            Icmpv4Header::with_checksum(kind, &payload)
                .to_bytes()
                .to_vec()
        } else {
            // The kernel fills the checksum in (RFC 3542 section 3.1).
            let kind = Icmpv6Type::EchoRequest(header);
            Icmpv6Header::new(kind).to_bytes().to_vec()
        };
        message.extend_from_slice(&payload);
        self.socket.get_ref().send(&message).map(drop)
    }

    /// The number of the next answer. Cancel safe. Errors are what ICMP reported; more may come after them.
    pub async fn answer(&self) -> io::Result<u64> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|_| self.receive()) {
                Ok(Ok(Some(number))) => return Ok(number),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// An answer that is there already, if there is one.
    pub fn waiting_answer(&self) -> Option<u64> {
        loop {
            match self.receive() {
                Ok(Some(number)) => return Some(number),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Something else, or what ICMP reported, which is taken away by that.
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// The next packet: the number of an answer, or `None` if it is something else.
    fn receive(&self) -> io::Result<Option<u64>> {
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let mut socket = self.socket.get_ref();
        let length = socket.read(&mut buffer)?;
        Ok(self.number(&buffer[..length]))
    }

    /// The number in an answer to this one's requests.
    fn number(&self, packet: &[u8]) -> Option<u64> {
        let (header, payload) = if self.is_ipv4 {
            // A raw IPv4 socket gives the IP header too.
            let length = usize::from(packet.first()? & 0x0f) * 4;
            let message = Icmpv4Slice::from_slice(packet.get(length..)?).ok()?;
            match message.icmp_type() {
                Icmpv4Type::EchoReply(header) => (header, message.payload()),
                _ => return None,
            }
        } else {
            let message = Icmpv6Slice::from_slice(packet).ok()?;
            match message.icmp_type() {
                Icmpv6Type::EchoReply(header) => (header, message.payload()),
                _ => return None,
            }
        };
        let (token, number) = payload.split_first_chunk::<8>()?;
        let is_ours = header.id == self.id && u64::from_be_bytes(*token) == self.token;
        let number = number.first_chunk::<8>().copied()?;
        is_ours.then(|| u64::from_be_bytes(number))
    }
}

/// An instruction's code, which has 16 bits whatever libc says.
#[expect(
    clippy::cast_possible_truncation,
    reason = "linux/filter.h: __u16 code"
)]
const fn code(bits: u32) -> u16 {
    bits as u16
}

/// A filter that lets answers with this identifier through, so that nothing else wakes anybody: other
/// raw sockets get everything that is of their protocol.
fn only_answers(is_ipv4: bool, id: u16) -> Vec<SockFilter> {
    const LOAD_HEADER_LENGTH: u16 = code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH);
    const LOAD_ZERO: u16 = code(libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM);
    const LOAD_BYTE: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_IND);
    const LOAD_HALF: u16 = code(libc::BPF_LD | libc::BPF_H | libc::BPF_IND);
    const JUMP_IF_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);
    let (message, reply) = if is_ipv4 {
        (LOAD_HEADER_LENGTH, 0)
    } else {
        (LOAD_ZERO, 129)
    };
    vec![
        SockFilter::new(message, 0, 0, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, reply),
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, id.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
