//! A cable without MAC addresses: two TUN devices, and a thread that carries
//! packets from each to the other.

use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Host;
use crate::tun;

/// The two devices, there until this is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Makes the device `name` on both hosts and starts to carry packets.
    pub(super) fn start(hosts: [&Host; 2], name: &str) -> Result<Self> {
        let [left, right] = hosts.map(|host| host.within(|| tun::open(name, libc::IFF_TUN)));
        let ends = [left?, right?];
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("relay".into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut packet = vec![0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    carry(&ends, &mut packet);
                }
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits a little for packets and carries those that are there.
fn carry(ends: &[File; 2], packet: &mut [u8]) {
    let mut fds = ends
        .each_ref()
        .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
    let _ = poll(&mut fds, PollTimeout::from(20_u8));
    let [left, right] = ends;
    for (mut from, mut to) in [(left, right), (right, left)] {
        loop {
            match from.read(packet) {
                // What the far end does not take is lost, as on any cable.
                Ok(length) => drop(to.write(&packet[..length])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
}
