//! BIRD on a gateway: OSPF over the tunnels, for IPv4 and IPv6.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::topology::{Family, Side, tunnel_address, tunnel_name};
use super::{Host, Lab, process, wait};

/// How long BIRD may take until it answers.
const READY: Duration = Duration::from_secs(10);

/// What BIRD says of one tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OspfLink {
    /// OSPF's cost of the tunnel; `None` takes it out of OSPF.
    pub cost: Option<u16>,
    /// Its weight among others of equal cost.
    pub weight: u8,
}

impl Default for OspfLink {
    fn default() -> Self {
        Self {
            cost: Some(10),
            weight: 1,
        }
    }
}

/// BIRD on one gateway. It tells its neighbour the networks behind the gateway, and puts into the kernel what it
/// is told. Dropping it kills it, which leaves its routes.
#[derive(Debug)]
pub struct Bird {
    host: Host,
    side: Side,
    config: PathBuf,
    socket: PathBuf,
    child: Option<Child>,
}

impl Bird {
    /// Starts BIRD with OSPF on the lab's tunnels, one link each.
    pub fn start(lab: &Lab, side: Side, links: &[OspfLink]) -> Result<Self> {
        let host = lab.gateway(side).clone();
        let mut bird = Self {
            config: host.dir().join("bird.conf"),
            socket: host.dir().join("bird.ctl"),
            host,
            side,
            child: None,
        };
        bird.write(links)?;
        bird.spawn(&[])?;
        Ok(bird)
    }

    /// Changes the links of the running BIRD.
    pub fn configure(&self, links: &[OspfLink]) -> Result<()> {
        self.write(links)?;
        self.birdc(&["configure"]).map(drop)
    }

    /// Replaces the process as for an upgrade: it tells its neighbours, and its routes stay until the next one knows
    /// all.
    pub fn replace(&mut self) -> Result<()> {
        self.birdc(&["graceful", "restart"])?;
        if let Some(mut child) = self.child.take() {
            wait::until("bird: end", READY, || Ok(child.try_wait()?))?;
        }
        self.spawn(&["-R"])
    }

    /// Ends it as a crash would: its routes stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::end(&mut child);
        }
    }

    /// What `birdc` answers.
    pub fn birdc(&self, words: &[&str]) -> Result<String> {
        let socket = self.socket.display().to_string();
        let mut args = vec!["-s", &socket];
        args.extend(words);
        self.host.output("birdc", &args)
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.host.dir().join("bird.log")).unwrap_or_default()
    }

    fn write(&self, links: &[OspfLink]) -> Result<()> {
        fs::write(&self.config, config(self.side, links))
            .with_context(|| format!("{}", self.config.display()))
    }

    fn spawn(&mut self, more: &[&str]) -> Result<()> {
        let log = File::create(self.host.dir().join("bird.log"))?;
        let mut command = self.host.command("bird");
        command
            .arg("-f")
            .arg("-c")
            .arg(&self.config)
            .arg("-s")
            .arg(&self.socket)
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = process::daemon(&mut command)
            .spawn()
            .context("bird: cannot be started")?;
        self.child = Some(child);
        wait::until("bird: answers", READY, || {
            Ok(self.birdc(&["show", "status"]).ok().map(drop))
        })
        .with_context(|| self.log())
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        self.kill();
    }
}

fn config(side: Side, links: &[OspfLink]) -> String {
    let id = match side {
        Side::A => "10.9.0.1",
        Side::B => "10.9.0.2",
    };
    let mut text = format!(
        "log stderr all;\n\
         router id {id};\n\
         graceful restart wait 10;\n\
         protocol device {{ scan time 1; }}\n"
    );
    let ([v4, v6], [far_v4, far_v6]) = (side.prefixes(), side.other().prefixes());
    for (version, channel, network, far) in [("v2", "ipv4", v4, far_v4), ("v3", "ipv6", v6, far_v6)]
    {
        let _ = writeln!(
            text,
            "protocol kernel kernel_{channel} {{\n  \
               merge paths yes;\n  \
               graceful restart on;\n  \
               {channel} {{ import none; export where source = RTS_OSPF && net = {far}; }};\n\
             }}\n\
             protocol ospf {version} ospf_{channel} {{\n  \
               tick 1;\n  \
               graceful restart on;\n  \
               {channel} {{ import all; export none; }};\n  \
               area 0 {{\n    \
                 stubnet {network};"
        );
        for (k, link) in links.iter().enumerate() {
            if let Some(cost) = link.cost {
                let _ = writeln!(
                    text,
                    "    interface \"{}\" {{ type ptp; cost {cost}; ecmp weight {}; hello 1; dead 4; retransmit 2; }};",
                    tunnel_name(k),
                    link.weight
                );
            }
        }
        text.push_str("  };\n}\n");
    }
    text
}

impl Lab {
    /// Lets routing daemons talk through the tunnels: the groups of OSPF and addresses of the link, and no route
    /// to the other gateway's networks but theirs.
    pub fn prepare_routing(&self) -> Result<()> {
        for side in [Side::A, Side::B] {
            let gateway = self.gateway(side);
            for k in 0..self.options().tunnels {
                let name = tunnel_name(k);
                let known = gateway.output("wg", &["show", &name, "allowed-ips"])?;
                let mut words = known.split_whitespace();
                let peer = words.next().context("wg: no peer")?;
                let mut allowed: Vec<&str> = words.collect();
                allowed.extend(["224.0.0.0/24", "ff02::/16", "fe80::/64"]);
                let allowed = allowed.join(",");
                gateway.output("wg", &["set", &name, "peer", peer, "allowed-ips", &allowed])?;
                let number = match tunnel_address(side, k, Family::V4) {
                    std::net::IpAddr::V4(address) => address.octets()[3],
                    std::net::IpAddr::V6(_) => 0,
                };
                let address = format!("fe80::{k:x}:{number}/64");
                gateway.ip(&["addr", "add", &address, "dev", &name, "nodad"])?;
            }
        }
        self.without_routes(Side::A)
    }

    /// Removes the routes of a gateway to the other one's networks.
    pub fn without_routes(&self, side: Side) -> Result<()> {
        for prefix in side.other().prefixes() {
            self.gateway(side).ip(&["route", "del", &prefix])?;
        }
        Ok(())
    }
}
