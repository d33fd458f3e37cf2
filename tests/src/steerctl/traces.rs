//! What steer leaves on a machine, seen without steer's help.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{SchedClassifier, TcAttachType};
use steer_common::abi::HookKind;

use crate::lab::Host;

/// A pinned link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// File name of the pin.
    pub pin: String,
    /// The kernel's id of the link.
    pub id: u32,
    /// The id of its program.
    pub program: u32,
}

/// The links that are pinned in a directory.
pub fn links(pin_dir: &Path) -> Result<Vec<Link>> {
    let mut found = Vec::new();
    for pin in names(pin_dir)? {
        let is_link = HookKind::ALL
            .iter()
            .any(|kind| pin.starts_with(&format!("{}_", kind.name())));
        if !is_link {
            continue;
        }
        let link = PinnedLink::from_pin(pin_dir.join(&pin)).with_context(|| pin.clone())?;
        let info = FdLink::from(link).info()?;
        let (id, program) = (info.id(), info.program_id());
        found.push(Link { pin, id, program });
    }
    Ok(found)
}

/// The programs that TCX runs on what enters a device: id and name.
pub fn tcx_programs(host: &Host, device: &str) -> Result<Vec<(u32, String)>> {
    tcx_programs_at(host, device, TcAttachType::Ingress)
}

/// The programs that TCX runs on what enters, or leaves, a device: id and name.
pub fn tcx_programs_at(
    host: &Host,
    device: &str,
    direction: TcAttachType,
) -> Result<Vec<(u32, String)>> {
    host.within(|| {
        // Before 6.6 there is no TCX, so nothing is attached by it.
        let Ok((_, programs)) = SchedClassifier::query_tcx(device, direction) else {
            return Ok(Vec::new());
        };
        Ok(programs
            .iter()
            .map(|info| (info.id(), info.name_as_str().unwrap_or("?").to_owned()))
            .collect())
    })
}

/// Devices with their qdiscs, filters, TCX programs and reverse path filters; policy rules and the
/// routes of all tables but the kernel's own; the files of `dir` and mounts below it.
pub(super) fn of(host: &Host, dir: &Path) -> Result<String> {
    let mut text = String::new();
    for device in devices(host)? {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            let tcx = tcx_programs_at(host, &device, direction)?;
            writeln!(text, "{device}: tcx {direction:?} {tcx:?}")?;
        }
        for view in [
            &["qdisc", "show", "dev", &device][..],
            &["filter", "show", "dev", &device, "ingress"],
            &["filter", "show", "dev", &device, "egress"],
        ] {
            text += &host.output("tc", view)?;
        }
        let rp_filter = host.within(|| rp_filter(&device))?;
        writeln!(text, "{device}: rp_filter {rp_filter}")?;
    }
    for family in ["-4", "-6"] {
        text += &host.output("ip", &[family, "rule"])?;
        text += &host.output(
            "ip",
            &[family, "route", "show", "table", "all", "proto", "87"],
        )?;
    }
    writeln!(text, "mounts {:?}", mounts_below(dir)?)?;
    let mut entries = names(dir)?;
    let pins = dir.join("pins");
    if pins.is_dir() {
        entries.extend(names(&pins)?.into_iter().map(|name| format!("pins/{name}")));
    }
    writeln!(text, "files {entries:?}")?;
    Ok(text)
}

/// Reverse path filtering of a device of this thread's namespace.
fn rp_filter(device: &str) -> Result<String> {
    let path = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(text.trim().to_owned())
}

fn devices(host: &Host) -> Result<Vec<String>> {
    host.within(|| {
        let mut names: Vec<_> = nix::net::if_::if_nameindex()?
            .iter()
            .map(|device| device.name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    })
}

/// Mount points at or below a directory, the innermost first.
pub(super) fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mut mounts: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .filter(|path| path.starts_with(dir))
        .collect();
    mounts.reverse();
    Ok(mounts)
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
