//! The gateway: a namespace with a LAN device and tunnels, and a client behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

use super::{Outcome, Running, traces};
use crate::lab::{Host, Owner, check_attach, steerctl_path};

/// Parent of all these gateways' directories.
const ROOT: &str = "/run/steer-cli";

/// MAC address of the LAN device.
const LAN_MAC: &str = "02:00:0a:01:00:01";

/// A gateway with `lan0` (10.1.0.1/24) and TUN devices `wg0` …, and a client 10.1.0.2.
///
/// Without a process that opens them, the TUN devices have no carrier and drop what they are
/// given, after the packet path has counted it.
#[derive(Debug)]
pub struct Gateway {
    name: String,
    dir: PathBuf,
    host: Host,
    client: Host,
    steerctl: PathBuf,
    _owner: Owner,
}

impl Gateway {
    /// Builds the gateway `name`, after removing what an owner before left of it.
    pub fn up(name: &str, tunnels: usize) -> Result<Self> {
        let owner = take_owner(name)?;
        remove(name);
        // `remove` took the owner's file with the directory.
        drop(owner);
        let owner = take_owner(name)?;
        let [host, client] = hosts(name);
        let gateway = Self {
            name: name.to_owned(),
            dir: dir(name),
            host,
            client,
            steerctl: steerctl_path()?,
            _owner: owner,
        };
        gateway.host.create()?;
        gateway.client.create()?;
        gateway.ip(&["link", "set", "lo", "up"])?;
        gateway.add_lan()?;
        for k in 0..tunnels {
            gateway.add_tunnel(&format!("wg{k}"))?;
        }
        Ok(gateway)
    }

    /// Removes the gateways of owners that were killed.
    pub fn sweep() -> Result<()> {
        let Ok(entries) = fs::read_dir(ROOT) else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry?;
            if Owner::has_left(&entry.path()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let _owner = take_owner(&name)?;
                remove(&name);
            }
        }
        Ok(())
    }

    /// Makes `lan0` and the client at its other end.
    pub fn add_lan(&self) -> Result<()> {
        let client = self.client.netns();
        self.ip(&[
            "link", "add", "lan0", "address", LAN_MAC, "type", "veth", "peer", "name", "host0",
            "netns", client,
        ])?;
        self.ip(&["addr", "add", "10.1.0.1/24", "dev", "lan0"])?;
        self.ip(&["link", "set", "lan0", "up"])?;
        self.client
            .ip(&["addr", "add", "10.1.0.2/24", "dev", "host0"])?;
        self.client.ip(&["link", "set", "host0", "up"])?;
        self.client
            .ip(&["route", "add", "default", "via", "10.1.0.1"])?;
        // So that no packet waits for, or is lost to, address resolution.
        self.client.ip(&[
            "neigh",
            "replace",
            "10.1.0.1",
            "lladdr",
            LAN_MAC,
            "dev",
            "host0",
            "nud",
            "permanent",
        ])
    }

    /// Makes a TUN device that is up.
    pub fn add_tunnel(&self, name: &str) -> Result<()> {
        self.ip(&["tuntap", "add", name, "mode", "tun"])?;
        self.ip(&["link", "set", name, "mtu", "1420", "up"])
    }

    /// Directory of this gateway's files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The host that it is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The client behind it.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// steer's pin directory, which is not there before steer is.
    pub fn pin_dir(&self) -> PathBuf {
        self.dir.join("pins")
    }

    /// A pin.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.pin_dir().join(name)
    }

    /// Runs `ip` in the gateway's namespace.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        self.host.ip(args)
    }

    /// Sets a sysctl in the gateway's namespace.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let setting = format!("{name}={value}");
        self.host.output("sysctl", &["-qw", &setting]).map(drop)
    }

    /// The value of a sysctl in the gateway's namespace.
    pub fn value(&self, name: &str) -> Result<String> {
        let value = self.host.output("sysctl", &["-n", name])?;
        Ok(value.trim().to_owned())
    }

    /// `steerctl` with this gateway's namespace, and its pin directory or another one.
    pub fn command_at(&self, pin_dir: &Path) -> Command {
        let mut command = Command::new(&self.steerctl);
        command
            .args(["--netns", self.host.netns()])
            .arg("--pin-dir")
            .arg(pin_dir)
            .env_remove("RUST_LOG")
            .env_remove("STEER_PIN_DIR");
        command
    }

    /// `steerctl` with this gateway's namespace and pin directory.
    pub fn command(&self) -> Command {
        self.command_at(&self.pin_dir())
    }

    /// A command in this gateway's namespace, and nothing else changed.
    pub fn within_namespace(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.host.netns_path().display()))
            .arg(program);
        command
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.steerctl
    }

    /// Runs `steerctl` to its end.
    pub fn steerctl(&self, args: &[&str]) -> Result<Outcome> {
        check_attach(args)?;
        Outcome::of(self.command().args(args)).with_context(|| args.join(" "))
    }

    /// Runs `steerctl`, which must succeed, and gives its standard output.
    pub fn done(&self, args: &[&str]) -> Result<String> {
        let outcome = self.steerctl(args)?.done();
        Ok(outcome.with_context(|| args.join(" "))?.stdout)
    }

    /// Runs a verb with `--json`.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        Outcome::of(self.command().args(args).arg("--json"))?
            .done()
            .with_context(|| args.join(" "))?
            .json()
    }

    /// One tunnel of `status --json`.
    pub fn tunnel(&self, name: &str) -> Result<Value> {
        let status = self.json(&["status"])?;
        let groups = status["groups"].as_array().context("no groups")?;
        groups
            .iter()
            .flat_map(|group| group["tunnels"].as_array().into_iter().flatten())
            .find(|tunnel| tunnel["name"] == name)
            .cloned()
            .with_context(|| format!("status: no tunnel {name}"))
    }

    /// `steerctl run ARGS`, ready.
    pub fn run(&self, args: &[&str]) -> Result<Running> {
        check_attach(args)?;
        let mut command = self.command();
        command.arg("run").args(args);
        Running::ready(&mut command)
    }

    /// Everything that steer could have left here, in words.
    pub fn traces(&self) -> Result<String> {
        traces::of(&self.host, &self.dir)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Directory of the gateway `name`.
fn dir(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// The gateway itself, and its client.
fn hosts(name: &str) -> [Host; 2] {
    ["a", "c"].map(|part| Host::new(format!("steer-cli-{name}-{part}"), dir(name).join(part)))
}

fn take_owner(name: &str) -> Result<Owner> {
    Owner::take(&dir(name), &format!("gateway {name}"))
}

/// Removes all of the gateway `name`; what is not there is no error.
fn remove(name: &str) {
    for host in hosts(name) {
        if host.netns_path().exists() {
            let deleted = Command::new("ip")
                .args(["netns", "del", host.netns()])
                .status();
            drop(deleted);
        }
    }
    let dir = dir(name);
    for mount in traces::mounts_below(&dir).unwrap_or_default() {
        let _ = umount2(&mount, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(&dir);
    // Other gateways may live next to this one.
    let _ = fs::remove_dir(ROOT);
}

/// Whether these programs are here; says so for the test `name` if not.
pub fn has(name: &str, programs: &[&str]) -> bool {
    let missing = programs
        .iter()
        .find(|program| Command::new(program).arg("--version").output().is_err());
    if let Some(program) = missing {
        println!("SKIP {name}: needs {program}");
    }
    missing.is_none()
}

/// Why these tests cannot run here, if they cannot.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root (network namespaces, eBPF)".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("needs TUN devices (/dev/net/tun)".into());
    }
    ["ip", "tc"]
        .into_iter()
        .find(|program| Command::new(program).arg("-V").output().is_err())
        .map(|program| format!("needs {program} (package iproute2)"))
}
