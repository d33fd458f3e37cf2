//! steer on a gateway of the lab, driven by its command line alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use super::host::{Host, output};
use super::status::{Flow, Status};
use super::topology::Side;
use super::{Lab, check_attach, process, tunnel_name, wait};

/// How long `steerctl run` may take until it is ready.
const READY: Duration = Duration::from_secs(20);

/// Name and weight, for [`Steer::weights`].
pub type Share<'a> = (&'a str, u32);

/// How steer is started on a gateway.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    weights: Vec<u32>,
    order: Option<Vec<usize>>,
    lan: Vec<String>,
    args: Vec<String>,
    prefixes: Prefixes,
    seed: Option<u64>,
}

/// Where the prefixes come from.
#[derive(Debug, Clone, Default)]
enum Prefixes {
    /// The networks behind the other gateway.
    #[default]
    Given,
    /// The kernel's routes.
    Routes,
    /// This configuration file, and all else with them.
    File(PathBuf),
}

impl Setup {
    /// Over all tunnels with these weights (1 where there is none), for what comes from `lan0`.
    pub fn new(weights: &[u32]) -> Self {
        Self {
            weights: weights.to_vec(),
            lan: vec!["lan0".into()],
            ..Self::default()
        }
    }

    /// For the prefixes that the kernel's routes say.
    #[must_use]
    pub fn follow_routes(mut self) -> Self {
        self.prefixes = Prefixes::Routes;
        self
    }

    /// By a configuration file, which names everything.
    #[must_use]
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.prefixes = Prefixes::File(path.into());
        self
    }

    /// For what comes from these devices instead.
    #[must_use]
    pub fn lan(mut self, devices: &[&str]) -> Self {
        self.lan = devices.iter().map(ToString::to_string).collect();
        self
    }

    /// With the tunnels named in this order instead of their own.
    #[must_use]
    pub fn order(mut self, tunnels: Vec<usize>) -> Self {
        self.order = Some(tunnels);
        self
    }

    /// With this seed of the hash instead of the gateway's own.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With more arguments of `steerctl run`.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }
}

/// `steerctl run` on one gateway, and the other verbs against it.
#[derive(Debug)]
pub struct Steer {
    steerctl: PathBuf,
    host: Host,
    side: Side,
    pin_dir: PathBuf,
    tunnels: usize,
    setup: Setup,
    child: Option<Child>,
    starts: u32,
}

impl Steer {
    /// Starts steer on a gateway over all tunnels with these weights, and waits until it steers.
    pub fn start(lab: &Lab, side: Side, weights: &[u32]) -> Result<Self> {
        Self::start_as(lab, side, &Setup::new(weights))
    }

    /// Starts steer on a gateway in a certain way, and waits until it steers.
    pub fn start_as(lab: &Lab, side: Side, setup: &Setup) -> Result<Self> {
        check_attach(&setup.args)?;
        let mut steer = Self::new(lab, side, setup)?;
        steer.spawn()?;
        Ok(steer)
    }

    /// Starts steer on both gateways at once: each start waits for the kernel to verify the programs.
    pub fn start_both(lab: &Lab, setup: impl Fn(Side) -> Setup) -> Result<[Self; 2]> {
        let setups = [Side::A, Side::B].map(|side| (side, setup(side)));
        let [near, far] = std::thread::scope(|scope| {
            let start = |(side, setup): &_| Self::start_as(lab, *side, setup);
            let threads = setups
                .each_ref()
                .map(|setup| scope.spawn(move || start(setup)));
            threads.map(|thread| thread.join().expect("starting does not panic"))
        });
        Ok([near?, far?])
    }

    /// What steer writes to standard error when it refuses to start like this;
    /// an error if it starts.
    pub fn refusal(lab: &Lab, side: Side, setup: &Setup) -> Result<String> {
        let steer = Self::new(lab, side, setup)?;
        let mut command = steer.command();
        // `run` would stay.
        command.arg("attach").args(steer.arguments());
        let output = command.output().context("steerctl attach")?;
        if output.status.success() {
            steer.steerctl(&["detach"])?;
            bail!("steerctl attach: it was not refused");
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn new(lab: &Lab, side: Side, setup: &Setup) -> Result<Self> {
        Ok(Self {
            steerctl: steerctl_path()?,
            host: lab.gateway(side).clone(),
            side,
            pin_dir: lab.pin_dir(side),
            tunnels: lab.options().tunnels,
            setup: setup.clone(),
            child: None,
            starts: 0,
        })
    }

    /// `steerctl run` (again): adopts what is pinned, replaces the program in place.
    pub fn run(&mut self, weights: &[u32]) -> Result<()> {
        self.setup.weights = weights.to_vec();
        self.spawn()
    }

    /// The same in another way.
    pub fn run_as(&mut self, setup: &Setup) -> Result<()> {
        self.setup = setup.clone();
        self.spawn()
    }

    /// Arguments of `run` and `attach`.
    fn arguments(&self) -> Vec<String> {
        // Different seeds: a reply that comes back right was learned, not computed alike.
        let seed = self.setup.seed.unwrap_or(match self.side {
            Side::A => 7,
            Side::B => 11,
        });
        let mut args = vec!["--seed".into(), seed.to_string()];
        if let Prefixes::File(path) = &self.setup.prefixes {
            args.extend(["--config".into(), path.display().to_string()]);
            args.extend(self.setup.args.iter().cloned());
            return args;
        }
        for device in &self.setup.lan {
            args.extend(["--iface".into(), device.clone()]);
        }
        let order = self.setup.order.clone();
        for k in order.unwrap_or_else(|| (0..self.tunnels).collect()) {
            let weight = self.setup.weights.get(k).unwrap_or(&1);
            args.extend(["--tunnel".into(), format!("{}={weight}", tunnel_name(k))]);
        }
        if let Prefixes::Routes = self.setup.prefixes {
            args.push("--follow-routes".into());
        } else {
            for prefix in self.side.other().prefixes() {
                args.extend(["--prefix".into(), prefix]);
            }
        }
        args.extend(self.setup.args.iter().cloned());
        args
    }

    fn spawn(&mut self) -> Result<()> {
        self.starts += 1;
        let log = self.host.dir().join(format!("steer-{}.log", self.starts));
        let file = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let mut command = self.command();
        command
            .arg("run")
            .args(self.arguments())
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

    /// `steerctl attach` in the same way: nobody stays.
    pub fn attach(&self) -> Result<()> {
        let mut command = self.command();
        command.arg("attach").args(self.arguments());
        output(&mut command).map(drop)
    }

    /// Stops the loader where it is, or lets it go on: SIGSTOP, SIGCONT.
    pub fn suspend(&self, is_stopped: bool) -> Result<()> {
        let child = self.child.as_ref().context("steerctl run: not running")?;
        let signal = if is_stopped {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
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
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let status = wait::until("steerctl run: end", Duration::from_secs(10), || {
            Ok(child.try_wait()?)
        })?;
        if !status.success() {
            bail!("steerctl run: ended with {status}");
        }
        Ok(())
    }

    /// Sends the loader a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("steerctl run: not running")?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
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
