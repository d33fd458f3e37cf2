//! FRR on a gateway: OSPF over the tunnels, for IPv4 and IPv6. Its zebra gives the kernel next-hop objects.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::topology::{Side, tunnel_name};
use super::{Host, Lab, Missing, process, wait};

/// Where distributions put the daemons.
const PLACES: [&str; 3] = ["/usr/lib/frr", "/usr/libexec/frr", "/usr/sbin"];
/// Who may run them.
const USER: &str = "frr";
/// How long a daemon may take until it answers.
const READY: Duration = Duration::from_secs(10);

/// The daemons of FRR on one gateway. Dropping it kills them, which leaves their routes.
#[derive(Debug)]
pub struct Frr {
    host: Host,
    dir: PathBuf,
    children: Vec<Child>,
}

impl Frr {
    /// Starts FRR with OSPF on all tunnels of the lab, at cost 10.
    pub fn start(lab: &Lab, side: Side) -> Result<Self> {
        let place = PLACES.iter().map(Path::new);
        let place = place
            .filter(|place| place.join("zebra").is_file())
            .find(|place| place.join("ospf6d").is_file())
            .ok_or_else(|| Missing("FRR is not installed".into()))?;
        let host = lab.gateway(side).clone();
        let dir = host.dir().join("frr");
        fs::create_dir_all(&dir)?;
        let owner = format!("{USER}:{USER}");
        host.output("chown", &[&owner, &dir.display().to_string()])?;
        let mut frr = Self {
            host,
            dir,
            children: Vec::new(),
        };
        for (daemon, config) in [
            ("zebra", String::new()),
            (
                "ospfd",
                ospf(lab, "ip ospf", "router ospf\n ospf router-id 10.9.0.1\n"),
            ),
            (
                "ospf6d",
                ospf(
                    lab,
                    "ipv6 ospf6",
                    "router ospf6\n ospf6 router-id 10.9.0.1\n",
                ),
            ),
        ] {
            frr.spawn(place, daemon, &config)?;
        }
        Ok(frr)
    }

    /// Changes OSPF's cost of a tunnel.
    pub fn cost(&self, k: usize, cost: u16) -> Result<()> {
        let interface = format!("interface {}", tunnel_name(k));
        let (v4, v6) = (
            format!("ip ospf cost {cost}"),
            format!("ipv6 ospf6 cost {cost}"),
        );
        self.vtysh(&["configure terminal", &interface, &v4, &v6])
            .map(drop)
    }

    /// What `vtysh` answers.
    pub fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let dir = self.dir.display().to_string();
        let mut args = vec!["--vty_socket", &dir];
        for command in commands {
            args.extend(["-c", command]);
        }
        self.host.output("vtysh", &args)
    }

    fn spawn(&mut self, place: &Path, daemon: &str, config: &str) -> Result<()> {
        let file = |end: &str| self.dir.join(format!("{daemon}.{end}"));
        fs::write(file("conf"), config)?;
        let log = File::create(file("log"))?;
        let mut command = self.host.command(place.join(daemon));
        command
            .args(["-u", USER, "-g", USER, "--log", "stdout", "--vty_socket"])
            .arg(&self.dir)
            .arg("-f")
            .arg(file("conf"))
            .arg("-i")
            .arg(file("pid"))
            .arg("-z")
            .arg(self.dir.join("zserv.api"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = process::daemon(&mut command)
            .spawn()
            .with_context(|| format!("{daemon}: cannot be started"))?;
        self.children.push(child);
        let dir = self.dir.display().to_string();
        let version = ["--vty_socket", &dir, "-d", daemon, "-c", "show version"];
        wait::until(&format!("{daemon}: answers"), READY, || {
            Ok(self.host.output("vtysh", &version).ok().map(drop))
        })
        .with_context(|| fs::read_to_string(file("log")).unwrap_or_default())
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        for child in &mut self.children {
            process::end(child);
        }
    }
}

/// A configuration of OSPF; `words` are what its commands for interfaces begin with.
fn ospf(lab: &Lab, words: &str, router: &str) -> String {
    let mut text = String::new();
    for k in 0..lab.options().tunnels {
        let _ = writeln!(
            text,
            "interface {}\n {words} area 0\n {words} network point-to-point\n {words} cost 10\n \
             {words} hello-interval 1\n {words} dead-interval 4\nexit",
            tunnel_name(k)
        );
    }
    let _ = writeln!(
        text,
        "interface lan0\n {words} area 0\n {words} passive\nexit"
    );
    text.push_str(router);
    text.push_str(" timers throttle spf 10 100 500\n maximum-paths 16\nexit\n");
    text
}
