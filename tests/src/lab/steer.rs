//! steer on a gateway of the lab, driven by its command line alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::host::{Host, output};
use super::topology::Side;
use super::{Lab, process, tunnel_name, wait};

/// How long `steerctl run` may take until it is ready.
const READY: Duration = Duration::from_secs(20);

/// The part of `steerctl status --json` that the lab reads.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The groups; the lab makes one.
    pub groups: Vec<GroupStatus>,
    /// Packets left to the kernel, by reason.
    #[serde(default)]
    pub passed: std::collections::BTreeMap<String, u64>,
}

impl Status {
    /// The tunnels of the first group.
    pub fn tunnels(&self) -> &[TunnelStatus] {
        self.groups.first().map_or(&[], |group| &group.tunnels)
    }

    /// The programs that run, by device and hook.
    pub fn programs(&self) -> std::collections::BTreeMap<(String, String), Option<u32>> {
        let hooks = self.groups.iter().flat_map(|group| &group.hooks);
        hooks
            .map(|hook| ((hook.iface.clone(), hook.hook.clone()), hook.program_id))
            .collect()
    }

    /// The tunnel `name`.
    pub fn tunnel(&self, name: &str) -> Result<&TunnelStatus> {
        self.tunnels()
            .iter()
            .find(|tunnel| tunnel.name == name)
            .with_context(|| format!("status: no tunnel {name}"))
    }
}

/// One group of `status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct GroupStatus {
    /// Name of the group.
    pub name: String,
    /// Where its programs are attached.
    #[serde(default)]
    pub hooks: Vec<HookStatus>,
    /// Its tunnels.
    pub tunnels: Vec<TunnelStatus>,
}

/// One hook of `status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct HookStatus {
    /// Device name.
    pub iface: String,
    /// `ingress`, `learn`, …
    pub hook: String,
    /// The kernel's id of the program that runs there.
    pub program_id: Option<u32>,
}

/// One tunnel of `status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct TunnelStatus {
    /// Device name.
    pub name: String,
    /// Configured weight.
    pub weight: u32,
    /// Share of new flows, 0 to 1.
    pub share: f64,
    /// `active`, `drain` or `disabled`.
    pub admin: String,
    /// `up`, `degraded`, `down` or `unknown`.
    #[serde(default)]
    pub health: Option<String>,
    /// Live flows.
    pub flows: Option<u64>,
    /// Bytes steered into the tunnel.
    pub tx_bytes: Option<u64>,
    /// Bytes that came through the tunnel.
    pub rx_bytes: Option<u64>,
    /// Flows placed here since the start.
    pub new_flows: Option<u64>,
}

/// One entry of `flows --json`, as far as the lab reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp`, …
    pub protocol: String,
    /// Address behind this gateway.
    pub src_addr: std::net::IpAddr,
    /// Its port.
    #[serde(default)]
    pub src_port: Option<u16>,
    /// The far address.
    pub dst_addr: std::net::IpAddr,
    /// Its port.
    #[serde(default)]
    pub dst_port: Option<u16>,
    /// Device name of the flow's tunnel.
    pub tunnel: Option<String>,
    /// Why it is there.
    pub origin: String,
}

/// Name and weight, for [`Steer::weights`].
pub type Share<'a> = (&'a str, u32);

/// `steerctl run` on one gateway, and the other verbs against it.
#[derive(Debug)]
pub struct Steer {
    steerctl: PathBuf,
    host: Host,
    side: Side,
    pin_dir: PathBuf,
    tunnels: usize,
    child: Option<Child>,
    starts: u32,
}

impl Steer {
    /// Starts steer on a gateway over all tunnels with these weights, and waits until it steers.
    pub fn start(lab: &Lab, side: Side, weights: &[u32]) -> Result<Self> {
        let mut steer = Self {
            steerctl: steerctl_path()?,
            host: lab.gateway(side).clone(),
            side,
            pin_dir: lab.pin_dir(side),
            tunnels: lab.options().tunnels,
            child: None,
            starts: 0,
        };
        steer.run(weights)?;
        Ok(steer)
    }

    /// `steerctl run` (again): adopts what is pinned, replaces the program in place.
    pub fn run(&mut self, weights: &[u32]) -> Result<()> {
        self.starts += 1;
        let log = self.host.dir().join(format!("steer-{}.log", self.starts));
        let file = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let mut command = self.command();
        // Different seeds: a reply that comes back right was learned, not computed alike.
        let seed = match self.side {
            Side::A => "7",
            Side::B => "11",
        };
        command.args(["run", "--iface", "lan0", "--seed", seed]);
        for k in 0..self.tunnels {
            let weight = weights.get(k).copied().unwrap_or(1);
            command.args(["--tunnel", &format!("{}={weight}", tunnel_name(k))]);
        }
        for prefix in self.side.other().prefixes() {
            command.args(["--prefix", &prefix]);
        }
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let mut child = process::daemon(&mut command)
            .spawn()
            .context("steerctl run")?;
        let ready = wait::until("steerctl run: the line `ready`", READY, || {
            ready(&mut child, &log)
        });
        if ready.is_err() {
            process::end(&mut child);
        }
        ready?;
        if let Some(mut before) = self.child.replace(child) {
            // An older loader that was replaced in place: it must not undo the new one's work.
            let _ = before.kill();
            let _ = before.wait();
        }
        Ok(())
    }

    /// `steerctl` with this gateway's pin directory, on the gateway.
    pub fn command(&self) -> Command {
        let mut command = self.host.command(&self.steerctl);
        command.arg("--pin-dir").arg(&self.pin_dir);
        command
    }

    /// Runs a verb and gives its standard output.
    pub fn steerctl(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.args(args);
        output(&mut command)
    }

    fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let text = self.steerctl(args)?;
        serde_json::from_str(&text).with_context(|| format!("steerctl {}: {text}", args.join(" ")))
    }

    /// `steerctl status --json`
    pub fn status(&self) -> Result<Status> {
        self.json(&["status", "--json"])
    }

    /// `steerctl flows --json`
    pub fn flows(&self) -> Result<Vec<Flow>> {
        self.json(&["flows", "--json"])
    }

    /// `steerctl weights NAME=W …`
    pub fn weights(&self, weights: &[Share<'_>]) -> Result<String> {
        let args: Vec<_> = weights
            .iter()
            .map(|(name, weight)| format!("{name}={weight}"))
            .collect();
        let mut all = vec!["weights"];
        all.extend(args.iter().map(String::as_str));
        self.steerctl(&all)
    }

    /// `steerctl disable NAME`
    pub fn disable(&self, tunnel: &str) -> Result<()> {
        self.steerctl(&["disable", tunnel]).map(drop)
    }

    /// `steerctl enable NAME`
    pub fn enable(&self, tunnel: &str) -> Result<()> {
        self.steerctl(&["enable", tunnel]).map(drop)
    }

    /// Ends the loader as a crash would: SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("steerctl run: not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends the loader in order, which detaches and unpins.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        let status = wait::until("steerctl run: end", Duration::from_secs(10), || {
            Ok(child.try_wait()?)
        })?;
        if !status.success() {
            bail!("steerctl run: ended with {status}");
        }
        Ok(())
    }

    /// Leaves the loader running when this value is dropped.
    pub fn keep(mut self) {
        self.child = None;
    }

    /// What the loader wrote so far.
    pub fn log(&self) -> String {
        let log = self.host.dir().join(format!("steer-{}.log", self.starts));
        fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Steer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            process::end(child);
        }
    }
}

/// Whether the loader wrote its line `ready …`; its log if it ended instead.
fn ready(child: &mut Child, log: &Path) -> Result<Option<()>> {
    let text = fs::read_to_string(log).unwrap_or_default();
    if text.lines().any(|line| line.starts_with("ready")) {
        return Ok(Some(()));
    }
    if let Some(status) = child.try_wait()? {
        let text = fs::read_to_string(log).unwrap_or_default();
        bail!("it ended, {status}:\n{}", text.trim_end());
    }
    Ok(None)
}

/// The `steerctl` under test: `$STEERCTL`, else next to this executable (for a
/// test: one directory up).
pub fn steerctl_path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("STEERCTL") {
        let path = PathBuf::from(path);
        return if path.is_file() {
            fs::canonicalize(&path).with_context(|| format!("{}", path.display()))
        } else {
            bail!("STEERCTL={}: no such file", path.display())
        };
    }
    let own = std::env::current_exe().context("own executable")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("steerctl"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "steerctl: not next to {}; build it or set STEERCTL",
                own.display()
            )
        })
}
