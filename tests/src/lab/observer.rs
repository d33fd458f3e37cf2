//! Which tunnel a flow really used, seen on the wire.
//!
//! A packet socket on every tunnel device of gateway A sees each packet as it
//! enters or leaves the tunnel, before and after all of steer's programs. It
//! is the oracle of the end-to-end tests: it shares nothing with steer.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockType, SockaddrLike as _, bind, recvfrom, setsockopt,
    socket, sockopt,
};

use super::packet::{self, Conversation};
use super::paths::{Paths, Seen};
use super::{Lab, Side, tunnel_name};

/// Bytes kept of a packet: enough for IPv6 with extension headers and ports.
const SNAP_BYTES: usize = 128;
/// Room for a burst of small packets per tunnel.
const SOCKET_BYTES: usize = 64 << 20;
/// `PACKET_HOST` and `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = libc::PACKET_OUTGOING;

#[derive(Debug, Default)]
struct State {
    flows: HashMap<Conversation, Paths>,
    lost: u64,
    /// Number of requests to catch up, and of requests that were served.
    asked: u64,
    served: u64,
}

/// Packet sockets on gateway A's tunnels, read by a thread.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<(Mutex<State>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Starts to observe all tunnel devices of gateway A that exist.
    pub fn start(lab: &Lab) -> Result<Self> {
        let tunnels = lab.options().tunnels;
        let sockets = lab.gateway(Side::A).within(|| {
            let mut sockets = Vec::new();
            for k in 0..tunnels {
                let name = tunnel_name(k);
                match if_nametoindex(name.as_str()) {
                    Ok(ifindex) => sockets.push((k, open(ifindex).with_context(|| name)?)),
                    Err(Errno::ENODEV) => {}
                    Err(error) => bail!("{name}: {error}"),
                }
            }
            Ok(sockets)
        })?;
        let seen: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("observer".into()).spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || read_all(&sockets, &seen, &stop)
        })?;
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
        })
    }

    /// Everything seen since the start or the last [`Observer::take`], including
    /// all packets that passed before this call; starts anew.
    pub fn take(&self) -> Result<Seen> {
        let (seen, served) = &*self.seen;
        let mut state = seen.lock().expect("the observer's thread does not panic");
        state.asked += 1;
        let want = state.asked;
        let (mut state, timeout) = served
            .wait_timeout_while(state, Duration::from_secs(10), |state| state.served < want)
            .expect("the observer's thread does not panic");
        if timeout.timed_out() {
            bail!("observer: cannot keep up with the traffic");
        }
        if state.lost > 0 {
            bail!(
                "observer: the kernel dropped {} captured packets",
                state.lost
            );
        }
        Ok(Seen {
            flows: std::mem::take(&mut state.flows),
        })
    }

    /// What is seen while `duration` passes.
    pub fn window(&self, duration: Duration) -> Result<Seen> {
        self.take()?;
        super::wait::pause(duration)?;
        self.take()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket that sees the device `ifindex` only, from the IP header on.
fn open(ifindex: u32) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Protocol 0 receives nothing: the device is chosen first, by `bind`.
    let fd =
        socket(AddressFamily::Packet, SockType::Datagram, flags, None).context("packet socket")?;
    setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BYTES).context("SO_RCVBUFFORCE")?;
    let every_protocol = u16::try_from(libc::ETH_P_ALL).expect("it is 3").to_be();
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("it is 17"),
        sll_protocol: every_protocol,
        sll_ifindex: i32::try_from(ifindex).context("ifindex")?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of_val(&address)).expect("20 bytes");
    // SAFETY: the pointer is to a whole sockaddr_ll, of the length given, with its family set.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }
        .context("packet socket address")?;
    bind(fd.as_raw_fd(), &address).context("packet socket: bind")?;
    Ok(fd)
}

fn read_all(sockets: &[(usize, OwnedFd)], seen: &(Mutex<State>, Condvar), stop: &AtomicBool) {
    let (state, served) = seen;
    let mut buffer = [0; SNAP_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let mut fds: Vec<_> = sockets
            .iter()
            .map(|(_, fd)| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        // Short, because a request to catch up does not wake it.
        let _ = poll(&mut fds, PollTimeout::from(20_u8));
        let asked = state.lock().expect("no holder panics").asked;
        for (tunnel, fd) in sockets {
            loop {
                match recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) {
                    Ok((length, Some(from))) => {
                        let mut state = state.lock().expect("no holder panics");
                        note(
                            &mut state.flows,
                            *tunnel,
                            from.pkttype() == OUTGOING,
                            &buffer[..length],
                        );
                    }
                    Ok((_, None)) | Err(Errno::EINTR) => {}
                    // EAGAIN: all read; ENETDOWN: said once when the device goes down.
                    Err(_) => break,
                }
            }
        }
        let lost: u64 = sockets.iter().map(|(_, fd)| drops(fd)).sum();
        let mut state = state.lock().expect("no holder panics");
        state.lost += lost;
        state.served = asked;
        served.notify_all();
    }
}

fn note(flows: &mut HashMap<Conversation, Paths>, tunnel: usize, outgoing: bool, bytes: &[u8]) {
    let Some((protocol, src, dst)) = packet::parse(bytes) else {
        return;
    };
    // At gateway A, what leaves through a tunnel comes from the client.
    let (client, server) = if outgoing { (src, dst) } else { (dst, src) };
    let paths = flows
        .entry(Conversation {
            protocol,
            client,
            server,
        })
        .or_default();
    let direction = if outgoing {
        &mut paths.forward
    } else {
        &mut paths.reverse
    };
    *direction.entry(tunnel).or_default() += 1;
}

/// Packets that did not fit into the socket since the last call (`PACKET_STATISTICS`).
fn drops(fd: &OwnedFd) -> u64 {
    #[repr(C)]
    #[derive(Default)]
    struct Stats {
        packets: u32,
        drops: u32,
    }
    let mut stats = Stats::default();
    let mut length = u32::try_from(size_of::<Stats>()).expect("8 bytes");
    // SAFETY: `stats` is a tpacket_stats (two u32), `length` its size; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if result == 0 { stats.drops.into() } else { 0 }
}
