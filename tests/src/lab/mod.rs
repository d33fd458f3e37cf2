//! The lab: two gateways with real WireGuard tunnels between them, a client
//! and a server, each in a network namespace of its own.
//!
//! ```no_run
//! use steer_tests::lab::{Lab, Options};
//!
//! let lab = Lab::up("demo", &Options { tunnels: 2, ..Options::default() })?;
//! assert!(lab.client().reaches("10.2.0.2".parse()?)?);
//! # anyhow::Ok(())
//! ```
//! Dropping the [`Lab`] removes it; what a killed owner left is removed by the
//! next [`Lab::up`] of the same name.

mod attach;
mod bird;
mod capture;
mod drops;
pub mod firewall;
mod foreign;
mod frr;
mod host;
mod icmp;
mod lan;
mod listener;
mod no_hash;
mod process;
mod relay;
mod segments;
mod sockets;
mod state;
mod status;
mod steer;
mod topology;
mod tunnel;
pub mod wait;
mod wireguard;

mod observer;
mod packet;
mod paths;

use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

pub(crate) use attach::check_attach;
pub use attach::{attach_auto, attach_modes};
pub use bird::{Bird, OspfLink};
pub use capture::{Capture, Captured, paths};
pub use firewall::Firewall;
pub use foreign::{Foreign, Place, Point};
pub use frr::Frr;
pub use host::Host;
pub use icmp::{Fault, IcmpError};
pub use lan::{ChangedLan, Lan};
pub(crate) use listener::link_address;
pub use no_hash::NoHash;
pub use observer::Observer;
pub use packet::{Conversation, Fragment, Packet, Protocol};
pub use paths::{Paths, Seen};
pub(crate) use process::dies_with_us;
pub use segments::Segments;
pub use state::{Missing, check_capabilities, lab_dir, labs};
pub use status::{
    Flow, GroupStatus, HookStatus, RouteHop, RouteSet, RoutesStatus, Status, TunnelStatus,
};
pub use steer::{Setup, Share, Steer, steerctl_path};
pub use topology::{Family, Side, TUNNEL_MTU, tunnel_address, tunnel_name, underlay_name};
pub use tunnel::DeviceCounters;
pub use wireguard::{Implementation, kernel_has_wireguard, tunnel_programs};

use state::HOSTS;
pub(crate) use state::Owner;

/// Size of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Number of tunnels, 1 to 64.
    pub tunnels: usize,
    /// Rate of each underlay link in Mbit/s, both directions.
    pub rate_mbit: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tunnels: 2,
            rate_mbit: 25,
        }
    }
}

/// A lab that is up. See the [module](self).
#[derive(Debug)]
pub struct Lab {
    name: String,
    options: Options,
    hosts: [Host; 4],
    implementation: Implementation,
    children: Vec<Child>,
    keep: bool,
    next_number: AtomicU32,
    _owner: Owner,
}

impl Lab {
    /// Builds the lab `name`, after removing what an owner before left of it.
    pub fn up(name: &str, options: &Options) -> Result<Self> {
        check_capabilities()?;
        let owner = take_owner(name)?;
        state::remove(name)?;
        // `remove` took the owner's file with the directory.
        drop(owner);
        let owner = take_owner(name)?;
        let dir = lab_dir(name);
        let hosts = HOSTS.map(|host| Host::new(state::netns_name(name, host), dir.join(host)));
        let mut lab = Self {
            name: name.into(),
            options: *options,
            hosts,
            implementation: Implementation::Userspace,
            children: Vec::new(),
            keep: false,
            next_number: AtomicU32::new(0),
            _owner: owner,
        };
        lab.build().with_context(|| format!("lab {name}"))?;
        Ok(lab)
    }

    /// Removes the lab `name` if nobody alive owns it; false when there was none.
    pub fn down(name: &str) -> Result<bool> {
        if !labs().iter().any(|lab| lab == name) && !state::exists(name) {
            return Ok(false);
        }
        let _owner = take_owner(name)?;
        state::remove(name)?;
        Ok(true)
    }

    /// The hosts of the kept lab `name`, or `None` when it is not up.
    pub fn hosts_of(name: &str) -> Option<[Host; 4]> {
        state::exists(name).then(|| {
            HOSTS.map(|host| Host::new(state::netns_name(name, host), lab_dir(name).join(host)))
        })
    }

    /// Name of the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was built with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Which WireGuard the tunnels are.
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// The client behind gateway A.
    pub fn client(&self) -> &Host {
        &self.hosts[0]
    }

    /// The server behind gateway B.
    pub fn server(&self) -> &Host {
        &self.hosts[3]
    }

    /// The host behind a gateway: client or server.
    pub fn host(&self, side: Side) -> &Host {
        match side {
            Side::A => self.client(),
            Side::B => self.server(),
        }
    }

    /// A gateway.
    pub fn gateway(&self, side: Side) -> &Host {
        match side {
            Side::A => &self.hosts[1],
            Side::B => &self.hosts[2],
        }
    }

    /// steer's pin directory of a gateway.
    pub fn pin_dir(&self, side: Side) -> PathBuf {
        pin_dir(&self.name, side)
    }

    /// A number that this lab did not give before. Flows take their ports from
    /// it: the same flows in every lab, which the same seed places alike.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Numbers flows from here on: other ports than in other labs.
    pub(crate) fn number_from(&self, first: u32) {
        self.next_number.store(first, Ordering::Relaxed);
    }

    /// Leaves the lab up when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    fn build(&mut self) -> Result<()> {
        for host in &self.hosts {
            host.create()?;
            host.sysctls(topology::SYSCTLS)?;
        }
        for side in [Side::A, Side::B] {
            self.gateway(side).sysctls(topology::GATEWAY_SYSCTLS)?;
            mount_bpffs(&bpffs(&self.name, side))?;
        }
        self.cables()?;
        self.implementation = Implementation::detect(self.gateway(Side::A))?;
        self.tunnels()?;
        for k in 0..self.options.tunnels {
            self.warm_up(k)?;
        }
        Ok(())
    }

    /// Once a tunnel answers, userspace WireGuard has opened its sockets.
    fn enlarge_buffers(&self) -> Result<()> {
        for child in &self.children {
            sockets::enlarge(child.id()).context("userspace WireGuard: sockets")?;
        }
        Ok(())
    }

    fn cables(&self) -> Result<()> {
        let tunnels = self.options.tunnels;
        let [a, b] = [Side::A, Side::B].map(|side| self.gateway(side).netns());
        // Each from the host whose device it is: older kernels (6.1) refuse a name that the namespace has
        // where the command stands.
        self.client().ip_batch(&[topology::lan_cable(a)])?;
        self.server().ip_batch(&[topology::lan_cable(b)])?;
        self.gateway(Side::A)
            .ip_batch(&topology::underlay_cables(b, tunnels))?;
        self.client().ip_batch(&topology::end_host(Side::A))?;
        self.server().ip_batch(&topology::end_host(Side::B))?;
        for side in [Side::A, Side::B] {
            let gateway = self.gateway(side);
            gateway.ip_batch(&topology::gateway(side, tunnels))?;
            gateway.tc_batch(&topology::shaping(tunnels, self.options.rate_mbit))?;
        }
        Ok(())
    }

    fn tunnels(&mut self) -> Result<()> {
        let (sides, kind) = ([Side::A, Side::B], self.implementation);
        let mut started = Vec::new();
        for k in 0..self.options.tunnels {
            for side in sides {
                // Recorded at once: a failure later ends the ones before.
                let child = wireguard::create(self.gateway(side), k, kind)?;
                let index = child.map(|child| {
                    self.children.push(child);
                    self.children.len() - 1
                });
                started.push((side, k, index));
            }
        }
        for (side, k, index) in started {
            let host = self.gateway(side).clone();
            wireguard::ready(&host, k, index.map(|index| &mut self.children[index]))?;
        }
        for k in 0..self.options.tunnels {
            wireguard::configure(self.gateway(Side::A), self.gateway(Side::B), k)?;
        }
        for side in sides {
            let mut lines: Vec<_> = (0..self.options.tunnels)
                .flat_map(|k| topology::tunnel(side, k))
                .collect();
            lines.extend(topology::routes(side));
            self.gateway(side).ip_batch(&lines)?;
        }
        Ok(())
    }

    /// Waits for an answer through tunnel `k`: the handshake is done.
    pub fn warm_up(&self, k: usize) -> Result<()> {
        let far = tunnel_address(Side::B, k, Family::V4);
        let what = format!("tunnel {}: handshake", tunnel_name(k));
        wait::until(&what, Duration::from_secs(15), || {
            Ok(self.gateway(Side::A).reaches(far)?.then_some(()))
        })?;
        self.enlarge_buffers()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for child in &mut self.children {
            process::end(child);
        }
        if let Err(error) = state::remove(&self.name) {
            eprintln!("{error:#}");
        }
    }
}

fn take_owner(name: &str) -> Result<Owner> {
    Owner::take(&lab_dir(name), &format!("lab {name}"))
}

/// steer's pin directory of a gateway in the lab `name`.
pub fn pin_dir(name: &str, side: Side) -> PathBuf {
    bpffs(name, side).join("steer")
}

fn bpffs(name: &str, side: Side) -> PathBuf {
    lab_dir(name).join(match side {
        Side::A => "bpf-a",
        Side::B => "bpf-b",
    })
}

fn mount_bpffs(path: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("{}", path.display()))?;
    let none: Option<&str> = None;
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), none)
        .with_context(|| format!("{}: a bpffs cannot be mounted", path.display()))
}
