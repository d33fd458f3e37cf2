//! Packet sockets on devices of a host, read by a thread.
//!
//! A packet socket sees each packet as it enters or leaves its device, before
//! and after all of steer's programs. What is seen there shares nothing with steer.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
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

use super::Host;

/// Room for a burst of small packets per device.
const SOCKET_BYTES: usize = 64 << 20;
/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = libc::PACKET_OUTGOING;

/// One packet, from its IP header on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting<'a> {
    /// Number of the device, in the order given to [`Listener::start`].
    pub(super) device: usize,
    /// Sent by the host, not received.
    pub(super) outgoing: bool,
    /// The packet, as much of it as was asked for.
    pub(super) bytes: &'a [u8],
}

#[derive(Debug, Default)]
struct State<T> {
    notes: T,
    lost: u64,
    /// Number of requests to catch up, and of requests that were served.
    asked: u64,
    served: u64,
}

#[derive(Debug, Default)]
struct Shared<T> {
    state: Mutex<State<T>>,
    served: Condvar,
    stop: AtomicBool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no holder panics")
    }
}

/// Packet sockets, and what was noted of the packets that they saw.
#[derive(Debug)]
pub(super) struct Listener<T> {
    shared: Arc<Shared<T>>,
    /// A byte in here, or its end, makes the thread look at `shared`.
    wake: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Default + Send + 'static> Listener<T> {
    /// Starts to listen on those of the devices that exist. `note` gets the
    /// first `snap_bytes` of every packet.
    pub(super) fn start(
        host: &Host,
        devices: &[String],
        snap_bytes: usize,
        note: fn(&mut T, Sighting<'_>),
    ) -> Result<Self> {
        let sockets = host.within(|| {
            let mut sockets = Vec::new();
            for (number, name) in devices.iter().enumerate() {
                match if_nametoindex(name.as_str()) {
                    Ok(ifindex) => {
                        sockets.push((number, open(ifindex).with_context(|| name.clone())?));
                    }
                    Err(Errno::ENODEV) => {}
                    Err(error) => bail!("{name}: {error}"),
                }
            }
            Ok(sockets)
        })?;
        let shared: Arc<Shared<T>> = Arc::default();
        let (woken, wake) = std::io::pipe()?;
        let thread = std::thread::Builder::new().name("listener".into()).spawn({
            let shared = Arc::clone(&shared);
            move || read_all(&sockets, woken, &shared, &mut vec![0; snap_bytes], note)
        })?;
        Ok(Self {
            shared,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// What was noted since the start or the last `take`, with all packets that
    /// passed before this call; starts anew.
    pub(super) fn take(&self) -> Result<T> {
        let mut state = self.shared.lock();
        state.asked += 1;
        let want = state.asked;
        if let Some(wake) = &self.wake {
            (&*wake).write_all(&[0])?;
        }
        let (mut state, timeout) = self
            .shared
            .served
            .wait_timeout_while(state, super::wait::here(Duration::from_secs(10)), |state| {
                state.served < want
            })
            .expect("the listener's thread does not panic");
        if timeout.timed_out() {
            bail!("listener: cannot keep up with the traffic");
        }
        if state.lost > 0 {
            bail!(
                "listener: the kernel dropped {} captured packets",
                state.lost
            );
        }
        Ok(std::mem::take(&mut state.notes))
    }
}

impl<T> Drop for Listener<T> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wake = None;
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
    let every_protocol = u16::try_from(libc::ETH_P_ALL).expect("it is 3");
    bind(fd.as_raw_fd(), &link_address(ifindex, every_protocol, &[])?)
        .context("packet socket: bind")?;
    Ok(fd)
}

/// The address of a packet socket: a device, the type of the frames, and a MAC address or none.
pub(crate) fn link_address(ifindex: u32, protocol: u16, mac: &[u8]) -> Result<LinkAddr> {
    let mut sll_addr = [0; 8];
    sll_addr[..mac.len()].copy_from_slice(mac);
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("it is 17"),
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(ifindex).context("ifindex")?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: u8::try_from(mac.len()).context("MAC address")?,
        sll_addr,
    };
    let length = u32::try_from(size_of_val(&address)).expect("20 bytes");
    // SAFETY: the pointer is to a whole sockaddr_ll, of the length given, with its family set.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }
        .context("packet socket address")
}

fn read_all<T>(
    sockets: &[(usize, OwnedFd)],
    mut woken: PipeReader,
    shared: &Shared<T>,
    buffer: &mut [u8],
    note: fn(&mut T, Sighting<'_>),
) {
    while !shared.stop.load(Ordering::Relaxed) {
        let mut fds: Vec<_> = sockets
            .iter()
            .map(|(_, fd)| fd.as_fd())
            .chain([woken.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        // A device that is down makes its socket ready for an error, once.
        let _ = poll(&mut fds, PollTimeout::NONE);
        let is_woken = fds.last().and_then(PollFd::any).unwrap_or(false);
        drop(fds);
        if is_woken {
            // One byte for each request; the end when there will be no more.
            let _ = woken.read(&mut [0]);
        }
        let asked = shared.lock().asked;
        for (device, fd) in sockets {
            loop {
                match recvfrom::<LinkAddr>(fd.as_raw_fd(), buffer) {
                    Ok((length, Some(from))) => {
                        let sighting = Sighting {
                            device: *device,
                            outgoing: from.pkttype() == OUTGOING,
                            bytes: &buffer[..length],
                        };
                        note(&mut shared.lock().notes, sighting);
                    }
                    Ok((_, None)) | Err(Errno::EINTR) => {}
                    // EAGAIN: all read; ENETDOWN: said once when the device goes down.
                    Err(_) => break,
                }
            }
        }
        let lost: u64 = sockets.iter().map(|(_, fd)| drops(fd)).sum();
        let mut state = shared.lock();
        state.lost += lost;
        state.served = asked;
        shared.served.notify_all();
    }
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
