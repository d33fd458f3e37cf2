//! `steerctl tunnels plan`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::plan::{End, TunnelsPlan};

/// Parallel tunnels that were planned. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TunnelsPlanReport {
    /// Device of the tunnel that they are parallel to.
    pub original: String,
    /// Whether that is one of them.
    pub keeps_original: bool,
    /// The new ones.
    pub tunnels: Vec<NewTunnelReport>,
    /// Networks behind the far gateway, which can be steered.
    pub remote_prefixes: Vec<String>,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// What to do now, on the far gateway and on this one.
    pub next: Vec<String>,
    /// Whether the files were only shown.
    pub dry_run: bool,
}

/// A new tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewTunnelReport {
    /// Its device, at both ends.
    pub name: String,
    /// This gateway's end.
    pub near: EndReport,
    /// The far gateway's end.
    pub far: EndReport,
}

/// One end of a new tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndReport {
    /// Its file on this machine.
    pub file: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Where it listens; `null` when the kernel chooses.
    pub listen_port: Option<u16>,
    /// Where it sends to; `null` when the other end calls.
    pub endpoint: Option<String>,
    /// What it takes from the other end.
    pub allowed_ips: Vec<String>,
}

impl EndReport {
    fn new(end: &End, file: Option<&PathBuf>) -> Self {
        let texts = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect();
        Self {
            file: file
                .map(|file| file.display().to_string())
                .unwrap_or_default(),
            addresses: texts(&end.addresses),
            listen_port: end.listen_port,
            endpoint: end.endpoint.as_ref().map(ToString::to_string),
            allowed_ips: texts(&end.allowed_ips),
        }
    }
}

impl TunnelsPlanReport {
    /// Of a plan, and the files of both ends in the order of its tunnels.
    pub fn new(plan: &TunnelsPlan, near: &[PathBuf], far: &[PathBuf], dry_run: bool) -> Self {
        Self {
            original: plan.original.clone(),
            keeps_original: plan.keeps_original,
            tunnels: plan
                .tunnels
                .iter()
                .enumerate()
                .map(|(index, tunnel)| NewTunnelReport {
                    name: tunnel.name.clone(),
                    near: EndReport::new(&tunnel.near, near.get(index)),
                    far: EndReport::new(&tunnel.far, far.get(index)),
                })
                .collect(),
            remote_prefixes: plan.remote.iter().map(ToString::to_string).collect(),
            notes: plan.notes.clone(),
            next: next(plan, near, far),
            dry_run,
        }
    }

    /// For people.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = if self.keeps_original {
            writeln!(
                out,
                "{} stays as it is: the first of {} tunnels",
                self.original,
                self.tunnels.len() + 1
            )
        } else {
            writeln!(
                out,
                "{} stays as it is: {} new tunnels beside it",
                self.original,
                self.tunnels.len()
            )
        };
        for tunnel in &self.tunnels {
            for (side, end) in [("near", &tunnel.near), ("far", &tunnel.far)] {
                let listens = match end.listen_port {
                    Some(port) => format!("listens on {port}"),
                    None => "listens on any port".into(),
                };
                let dials = match &end.endpoint {
                    Some(endpoint) => format!("sends to {endpoint}"),
                    None => "waits for the other end".into(),
                };
                let _ = writeln!(
                    out,
                    "  {} {side}: {}, {listens}, {dials}: {}",
                    tunnel.name,
                    end.addresses.join(" "),
                    end.file
                );
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out.push_str("next:\n");
        for (number, step) in self.next.iter().enumerate() {
            let _ = writeln!(out, "  {}. {step}", number + 1);
        }
        if self.dry_run {
            out.push_str("dry run: nothing was written; the keys will be other ones\n");
        }
        out
    }
}

/// The steps from files to steered packets.
fn next(plan: &TunnelsPlan, near: &[PathBuf], far: &[PathBuf]) -> Vec<String> {
    let names: Vec<&str> = plan.tunnels.iter().map(|t| t.name.as_str()).collect();
    let dir = |files: &[PathBuf]| {
        let dir = files.first().and_then(|file| file.parent());
        dir.unwrap_or(Path::new(".")).display().to_string()
    };
    let up = |target: &str| {
        let commands = names.iter().map(|name| {
            if target.is_empty() {
                format!("wg-quick up {name}")
            } else {
                format!("wg-quick up {target}/{name}.conf")
            }
        });
        commands.collect::<Vec<_>>().join("; ")
    };
    let near_dir = dir(near);
    let here = if near_dir == "/etc/wireguard" {
        ""
    } else {
        near_dir.as_str()
    };
    let mut steps = vec![
        format!(
            "move {}/*.conf to /etc/wireguard on the far gateway, by a way that nobody reads along: they hold its private keys",
            dir(far)
        ),
        format!("on the far gateway: {}", up("")),
        format!("here: {}", up(here)),
    ];
    let own = plan.keeps_original.then_some(plan.original.as_str());
    let tunnels: Vec<String> = own
        .into_iter()
        .chain(names.iter().copied())
        .map(|name| format!("--tunnel {name}"))
        .collect();
    let prefixes = plan
        .remote
        .iter()
        .map(|prefix| format!("--prefix {prefix}"));
    let prefixes: Vec<_> = prefixes.collect();
    steps.push(format!(
        "here: steerctl run --iface LAN {} {}",
        tunnels.join(" "),
        prefixes.join(" ")
    ));
    steps.push("on the far gateway: the same with its LAN and the prefixes behind this one; and on both: steerctl doctor".into());
    steps
}
