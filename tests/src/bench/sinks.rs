//! Where packets end: devices that take them, count them, and cost next to nothing.
//!
//! A TUN device is a layer-3 device as WireGuard is. With a file that holds it open it has a
//! carrier, without a queueing discipline it sends at once as WireGuard does, and with a filter
//! that takes no packet (`TUNSETFILTEREBPF`) it frees and counts each one where it would else
//! be handed to a reader.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, programs::SocketFilter};
use nix::libc;
use steer_common::bench::programs;

use super::object;
use crate::{lab::Host, tun};

/// `TUNSETFILTEREBPF` of `linux/if_tun.h`: `_IOR('T', 225, int)`.
const SET_FILTER: libc::Ioctl = 0x8004_54e1_u32 as libc::Ioctl;
/// Devices and their counters, in the namespace of the thread that reads it.
const COUNTERS: &str = "/proc/thread-self/net/dev";
/// Which of a line's counters says what was dropped instead of sent (`dev_seq_printf_stats` in
/// `net/core/net-procfs.c`).
const TX_DROPPED: usize = 11;

/// The sinks of one gateway.
pub(super) struct Sinks {
    host: Host,
    names: Vec<String>,
    /// As long as these live, the devices have a carrier and keep the filter.
    _files: Vec<File>,
    _filter: Ebpf,
}

impl Sinks {
    /// Turns the TUN devices of these names into sinks.
    pub(super) fn attach(host: &Host, names: &[String]) -> Result<Self> {
        let mut object = object::load(object::Settings::default())?;
        let filter: &mut SocketFilter = object
            .program_mut(programs::SINK)
            .context("no sink in the object")?
            .try_into()?;
        filter.load()?;
        let filter = filter.fd()?.as_fd().as_raw_fd();
        let files = host.within(|| {
            let open = |name: &String| {
                let file = tun::open(name, libc::IFF_TUN)?;
                // SAFETY: the request reads one int, which lives through the call.
                let status =
                    unsafe { libc::ioctl(file.as_raw_fd(), SET_FILTER, &raw const filter) };
                if status < 0 {
                    let error = std::io::Error::last_os_error();
                    bail!("device {name}: filter (TUNSETFILTEREBPF): {error}");
                }
                Ok(file)
            };
            names.iter().map(open).collect::<Result<Vec<_>>>()
        })?;
        for name in names {
            let none = ["qdisc", "replace", "dev", name, "root", "noqueue"];
            host.output("tc", &none)?;
        }
        Ok(Self {
            host: host.clone(),
            names: names.to_vec(),
            _files: files,
            _filter: object,
        })
    }

    /// How many packets each has taken so far.
    pub(super) fn taken(&self) -> Result<Vec<u64>> {
        let text = self
            .host
            .within(|| fs::read_to_string(COUNTERS).context(COUNTERS))?;
        let dropped = |name| dropped(&text, name).with_context(|| format!("{COUNTERS}: {name}"));
        self.names.iter().map(|name| dropped(name)).collect()
    }
}

/// How many packets a device has dropped instead of sending them.
fn dropped(counters: &str, device: &str) -> Option<u64> {
    let line = counters.lines().find_map(|line| {
        let (name, counters) = line.split_once(':')?;
        (name.trim() == device).then_some(counters)
    })?;
    line.split_whitespace().nth(TX_DROPPED)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_the_twelfth_number_behind_the_name() {
        let text = "Inter-|   Receive | Transmit\n face |bytes packets errs drop fifo\n\
                    \x20  wg1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                    \x20  wg10: 0 0 0 0 0 0 0 0 0 0 0 7 0 0 0 0\n";
        assert_eq!(dropped(text, "wg1"), Some(12));
        assert_eq!(dropped(text, "wg10"), Some(7));
        assert_eq!(dropped(text, "wg0"), None);
    }
}
