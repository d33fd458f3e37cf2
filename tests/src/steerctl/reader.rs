//! The far side of a TUN device: takes what was steered into it, and answers echo requests.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{echo, flood::Numbered};
use crate::{lab::Host, tun};

/// How long the thread may take to see that it is not wanted any more.
const PATIENCE_MS: u16 = 20;

/// What came out of a tunnel.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Sending port and number of each datagram of a [`Flood`](super::Flood).
    pub datagrams: HashSet<Numbered>,
    /// Those that came more than once.
    pub doubles: u64,
}

impl Seen {
    /// The sending ports.
    pub fn ports(&self) -> HashSet<u16> {
        self.datagrams
            .iter()
            .map(|datagram| datagram.port)
            .collect()
    }
}

/// Reads a TUN device until dropped; the device has a carrier for as long.
#[derive(Debug)]
pub struct Reader {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Opens the TUN device `name` of `host`.
    pub fn open(host: &Host, name: &str) -> Result<Self> {
        let file = host.within(|| tun::open(name, libc::IFF_TUN))?;
        // The kernel drops what is sent before its link watch has seen the carrier; asking for the device has it look
        // at once (`rtnl_getlink` in net/core/rtnetlink.c).
        host.ip(&["link", "show", "dev", name])?;
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (of_thread, end) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || read(file, &of_thread, &end));
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
        })
    }

    /// What came so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// How many different datagrams came so far.
    pub fn count(&self) -> usize {
        lock(&self.seen).datagrams.len()
    }

    /// What came since this was asked last.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut lock(&self.seen))
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        *lock(&self.seen) = Seen::default();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed already.
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(mut file: File, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut packet = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        match file.read(&mut packet) {
            Ok(length) => {
                if let Some(datagram) = Numbered::read(&packet[..length]) {
                    let mut seen = lock(seen);
                    if !seen.datagrams.insert(datagram) {
                        seen.doubles += 1;
                    }
                } else if echo::turn_round(&mut packet[..length]) {
                    // A device that is down, or full, loses it: that is what probes are for.
                    let _ = file.write(&packet[..length]);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
                // Woken or not: the next read tells.
                let _ = poll(&mut fds, PollTimeout::from(PATIENCE_MS));
            }
            // The device was deleted.
            Err(_) => return,
        }
    }
}
