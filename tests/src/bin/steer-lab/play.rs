//! `steer-lab up|down|shell|status`: the lab, kept for playing.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use steer_tests::lab::{Host, Lab, Options, Side, Steer, lab_dir, pin_dir, steerctl_path};

use crate::run;
use crate::text::{BOLD, DIM, step};

/// The name of the lab that `up` makes.
const NAME: &str = "lab";
/// Labs that these commands know: their own, and what `run --keep` left.
const NAMES: [&str; 2] = [NAME, run::NAME];

/// A host of the lab.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Place {
    /// The client behind gateway A.
    Client,
    /// Gateway A.
    A,
    /// Gateway B.
    B,
    /// The server behind gateway B.
    Server,
}

/// Builds the lab and leaves it up.
pub(crate) fn up(options: &Options, with_steer: bool) -> Result<()> {
    if with_steer {
        steerctl_path()?;
    }
    let mut lab = step("Lab", || {
        let lab = Lab::up(NAME, options)?;
        let what = format!(
            "{} tunnels of {} Mbit/s ({})",
            options.tunnels,
            options.rate_mbit,
            lab.implementation()
        );
        Ok((lab, what))
    })?;
    if !with_steer {
        lab.keep();
        return Ok(());
    }
    let (near, far) = step("steer on both gateways", || {
        let weights = vec![1; options.tunnels];
        let near = Steer::start(&lab, Side::A, &weights)?;
        let far = Steer::start(&lab, Side::B, &weights)?;
        Ok(((near, far), "running".into()))
    })?;
    run::keep(&mut lab, near, far);
    Ok(())
}

/// Removes the labs that nobody alive owns.
pub(crate) fn down() -> Result<()> {
    let mut found = false;
    for name in NAMES {
        if Lab::down(name)? {
            found = true;
            anstream::println!("lab {name} removed");
        }
    }
    if !found {
        anstream::println!("no lab is up");
    }
    Ok(())
}

/// Becomes a shell on a host.
pub(crate) fn shell(place: Place) -> Result<()> {
    let (name, hosts) = found()?;
    let (index, side) = match place {
        Place::Client => (0, None),
        Place::A => (1, Some(Side::A)),
        Place::B => (2, Some(Side::B)),
        Place::Server => (3, None),
    };
    let host = &hosts[index];
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut command = host.command(shell);
    command.env("PS1", format!("{} # ", host.netns()));
    if let Some(side) = side {
        command.env("STEER_PIN_DIR", pin_dir(name, side));
    }
    if let Some(dir) = steerctl_path().ok().as_deref().and_then(Path::parent) {
        let mut path = dir.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
    }
    anstream::eprintln!(
        "{DIM}{}: exit leaves the shell, the lab stays up{DIM:#}",
        host.netns()
    );
    Err(command.exec()).context("shell")
}

/// Shows the labs and what steer does on their gateways.
pub(crate) fn status() -> Result<()> {
    let Ok((name, hosts)) = found() else {
        anstream::println!("no lab is up");
        return Ok(());
    };
    anstream::println!(
        "{BOLD}lab {name}{BOLD:#}: files in {}",
        lab_dir(name).display()
    );
    for host in &hosts {
        anstream::println!("  namespace {}", host.netns());
    }
    let Ok(steerctl) = steerctl_path() else {
        return Ok(());
    };
    for (host, side) in [(&hosts[1], Side::A), (&hosts[2], Side::B)] {
        let dir = pin_dir(name, side);
        if !dir.exists() {
            continue;
        }
        anstream::println!("\n{BOLD}steer on {}{BOLD:#}", host.netns());
        let mut command = host.command(&steerctl);
        let status = command.arg("--pin-dir").arg(&dir).arg("status").status()?;
        if !status.success() {
            bail!("steerctl status on {}: {status}", host.netns());
        }
    }
    Ok(())
}

fn found() -> Result<(&'static str, [Host; 4])> {
    NAMES
        .into_iter()
        .find_map(|name| Lab::hosts_of(name).map(|hosts| (name, hosts)))
        .context("no lab is up; `cargo xtask lab up` builds one")
}
