//! Packets through the kernel's own receive path: written into the TAP device
//! on the LAN, read from the TUN devices of the tunnels, and the other way.
//!
//! A test run shows neither the metadata of a packet (a VLAN tag that the
//! kernel took out of the frame) nor its delivery; this does.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::netns;
use crate::{
    packets::{build::HOST_MAC, world::DEVICES},
    tun,
};

/// `struct virtio_net_hdr` before each frame of the TAP device (`linux/virtio_net.h`).
const VNET_BYTES: usize = 10;

/// The devices on the LAN; frames come from the first.
pub const LANS: [&str; 2] = ["lan0", "lan0.10"];

/// Both ends of the gateway.
pub struct Wire {
    lans: Vec<File>,
    tunnels: Vec<File>,
}

impl Wire {
    /// Opens the devices that [`netns::enter`] made in this thread's namespace.
    pub fn open() -> Result<Self> {
        let lans = LANS
            .iter()
            .map(|name| tun::open(name, libc::IFF_TAP | libc::IFF_VNET_HDR))
            .collect::<Result<_>>()?;
        let tunnels = DEVICES
            .iter()
            .map(|name| tun::open(name, libc::IFF_TUN))
            .collect::<Result<_>>()?;
        let end = Instant::now() + Duration::from_secs(10);
        for name in LANS.iter().chain(&DEVICES) {
            while !netns::is_running(name)? {
                ensure!(Instant::now() < end, "{name} is not in use after 10 s");
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(Self { lans, tunnels })
    }

    /// Lets a frame arrive from the LAN.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.write([0; VNET_BYTES], frame)
    }

    /// Lets a TCP packet arrive that stands for segments with as much payload each, as after GRO.
    /// The frame has no VLAN tag, and its IPv4 header no options.
    pub fn send_merged(&mut self, frame: &[u8], payload_bytes: u16) -> Result<()> {
        const NEEDS_CHECKSUM: u8 = 1;
        const TCP_V4: u8 = 1;
        let mut header = [0; VNET_BYTES];
        header[0] = NEEDS_CHECKSUM;
        header[1] = TCP_V4;
        // Length of all headers, payload per segment, where the checksum starts and where it goes.
        for (at, value) in [(2, 54), (4, payload_bytes), (6, 34), (8, 16)] {
            header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        self.write(header, frame)
    }

    fn write(&mut self, header: [u8; VNET_BYTES], frame: &[u8]) -> Result<()> {
        let bytes = [&header, frame].concat();
        let written = self.lans[0].write(&bytes).context("lan0")?;
        ensure!(written == bytes.len(), "lan0 took {written} bytes");
        Ok(())
    }

    /// Lets a packet come out of a tunnel.
    pub fn send_back(&mut self, tunnel: usize, packet: &[u8]) -> Result<()> {
        let written = self.tunnels[tunnel].write(packet).context("tunnel")?;
        ensure!(written == packet.len(), "the tunnel took {written} bytes");
        Ok(())
    }

    /// What came out of the tunnels: the tunnel and the IP packet. Packets of a steered packet are
    /// there when [`Wire::send`] returns or a moment later; what the kernel sends on its own account
    /// is left out.
    pub fn received(&mut self, patience: Duration) -> Result<Vec<(usize, Vec<u8>)>> {
        read(&mut self.tunnels, patience, |packet| {
            (!is_own(packet)).then(|| packet.to_vec())
        })
    }

    /// What went out on the LAN to a host there: the place of the device in [`LANS`], and the frame.
    pub fn delivered(&mut self, patience: Duration) -> Result<Vec<(usize, Vec<u8>)>> {
        read(&mut self.lans, patience, |bytes| {
            let frame = bytes.get(VNET_BYTES..)?;
            frame.starts_with(&HOST_MAC).then(|| frame.to_vec())
        })
    }
}

/// Everything that there is to read, by the place of the file, as far as it is wanted.
fn read(
    files: &mut [File],
    patience: Duration,
    wanted: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<(usize, Vec<u8>)>> {
    let mut all = Vec::new();
    let end = Instant::now() + patience;
    loop {
        // Once there is something, the rest is there too.
        let left = if all.is_empty() {
            end.saturating_duration_since(Instant::now())
        } else {
            Duration::ZERO
        };
        let mut fds: Vec<PollFd<'_>> = files
            .iter()
            .map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN))
            .collect();
        if poll(&mut fds, PollTimeout::try_from(left)?)? == 0 {
            return Ok(all);
        }
        for (place, file) in files.iter_mut().enumerate() {
            let mut packet = vec![0; 65_536];
            match file.read(&mut packet) {
                Ok(length) => all.extend(wanted(&packet[..length]).map(|packet| (place, packet))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Multicast and link-local IPv6: what the kernel says on a device that has come up.
fn is_own(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
        && packet.get(24).is_some_and(|first| *first == 0xff)
}
