//! Nanoseconds per packet of the programs, by `BPF_PROG_TEST_RUN`.
//!
//! The kernel runs the program again and again on one packet and reports the
//! mean time of a run. Because the packet stays, its TTL falls with each run:
//! `REPEAT` runs start at 255 and end before the program lets it go. The
//! measuring loop costs the same for every program, and the bare redirect,
//! against which all others are given, contains it too.
//!
//! A new flow is new only once, so those are single runs, each with a port of
//! its own. A single run costs more than one of many, because the caches and
//! the clock reads of the measurement are not shared; what it costs more is
//! measured with the bare redirect and subtracted.
//!
//! Rounds are interleaved, so that a change of the CPU's clock meets all
//! cases alike, and the median counts.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use steer_common::abi::programs;

use super::{
    kernel::Kernel,
    netns::{self, Devices},
};
use crate::packets::{build, recipe::Recipe, world::World};

/// Runs per call: fewer than a TTL of 255 lives.
const REPEAT: u32 = 250;
/// Calls per round and case.
const CALLS: usize = 20;
/// Single runs per round and case.
const SINGLES: u16 = 200;

/// The case that the others are measured against.
const BARE: &str = "bare redirect";

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was measured.
    pub name: &'static str,
    /// Median time of a run, in nanoseconds.
    pub ns: f64,
    /// The same as a multiple of the bare redirect.
    pub ratio: f64,
}

/// A case and what it measured so far.
struct Case {
    name: &'static str,
    program: &'static str,
    packet: Vec<u8>,
    device: u32,
    redirects: bool,
    means: Vec<Duration>,
}

/// A packet of the packet table, from the few fields that differ.
fn packet(fields: &str) -> Result<Vec<u8>> {
    let recipe: Recipe = toml::from_str(&format!("ttl = 255\n{fields}"))?;
    Ok(build::packet(&recipe))
}

/// The packet of a flow by its number, counted in ports on both sides.
fn new_flow(number: u32) -> Result<Vec<u8>> {
    let recipe = Recipe {
        ttl: 255,
        src_port: u16::try_from(number % 50_000)?,
        dst_port: u16::try_from(10_000 + number / 50_000)?,
        ..Recipe::default()
    };
    Ok(build::packet(&recipe))
}

/// Measures the bare redirect and the cases whose name contains `only`; without it, everything.
pub fn run(rounds: usize, only: Option<&str>) -> Result<Vec<Line>> {
    let devices = netns::enter()?;
    let world = World::new(devices.tunnels);
    let kernel = Kernel::load(&world, &devices, 1 << 20)?;
    let mut cases = cases(&devices)?;
    if let Some(only) = only {
        cases.retain(|case| case.name == BARE || case.name.contains(only));
    }
    let mut singles: [Vec<Duration>; 3] = Default::default();
    let mut flows = 0;
    // Warm-up: pages, caches, and the entries of the established flows.
    for case in &cases {
        kernel.run(case.program, &case.packet, case.device, REPEAT)?;
    }
    for _ in 0..rounds {
        for _ in 0..CALLS {
            for case in &mut cases {
                let ran = kernel.run(case.program, &case.packet, case.device, REPEAT)?;
                ensure!(ran.redirected == case.redirects, "{}", case.name);
                case.means.push(ran.duration);
            }
        }
        let singles_wanted = if only.is_none() { SINGLES } else { 0 };
        for _ in 0..singles_wanted {
            let fresh = new_flow(flows)?;
            flows += 1;
            let bare = kernel.run(programs::BARE_REDIRECT, &fresh, devices.lan, 1)?;
            let new = kernel.ingress(&devices, &fresh)?;
            let old = kernel.ingress(&devices, &fresh)?;
            ensure!(new.redirected && old.redirected, "new flow");
            for (times, ran) in singles.iter_mut().zip([bare, new, old]) {
                times.push(ran.duration);
            }
        }
    }

    let medians: Vec<(&str, f64)> = cases
        .iter_mut()
        .map(|case| (case.name, median(&mut case.means)))
        .collect();
    let bare = medians[0].1;
    let [bare_once, new_once, old_once] = singles.each_mut().map(|times| median(times));
    let mut lines: Vec<(&str, f64)> = medians;
    if only.is_none() {
        lines.push(("new flow (entered)", new_once - bare_once + bare));
        lines.push(("established, second packet", old_once - bare_once + bare));
    }
    Ok(lines
        .into_iter()
        .map(|(name, ns)| Line {
            name,
            ns,
            ratio: ns / bare,
        })
        .collect())
}

fn cases(devices: &Devices) -> Result<Vec<Case>> {
    let ingress = |name, fields, redirects| {
        Ok::<_, anyhow::Error>(Case {
            name,
            program: programs::INGRESS,
            packet: packet(fields)?,
            device: devices.lan,
            redirects,
            means: Vec::new(),
        })
    };
    let learn = |name, fields| {
        Ok::<_, anyhow::Error>(Case {
            name,
            program: programs::LEARN,
            packet: packet(fields)?,
            device: devices.tunnels[0],
            redirects: false,
            means: Vec::new(),
        })
    };
    let mut bare = ingress(BARE, "", true)?;
    bare.program = programs::BARE_REDIRECT;
    Ok(vec![
        bare,
        ingress("passed: not IP", "ip = 0\nethertype = 2054", false)?,
        ingress("passed: not steered", "dst = '192.0.2.1'", false)?,
        ingress(
            "passed: not steered, IPv6",
            "ip = 6\ndst = '2001:db8::1'",
            false,
        )?,
        ingress("established, TCP", "", true)?,
        ingress("established, UDP", "protocol = 'udp'", true)?,
        ingress("established, TCP over IPv6", "ip = 6", true)?,
        // A SYN that carries a FIN ends the flow that it opens, so every run starts one anew.
        ingress(
            "new flow (entry reused)",
            "flags = 'SF'\nsrc_port = 9",
            true,
        )?,
        learn("learn: established", "hook = 'tunnel'")?,
        learn("learn: established, IPv6", "hook = 'tunnel'\nip = 6")?,
        learn("learn: not steered", "hook = 'tunnel'\nsrc = '192.0.2.1'")?,
    ])
}

/// The middle of several times, in nanoseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |time| time.as_secs_f64() * 1e9)
}
