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
use steer_common::{abi::programs, bench::programs::REDIRECT};

use super::{
    kernel::Kernel,
    netns::{self, Devices},
};
use crate::{
    bench::{Series, Spread},
    packets::{build, recipe::Recipe, world::World},
};

/// Runs per call: fewer than a TTL of 255 lives.
const REPEAT: u32 = 250;
/// Calls per round and case.
const CALLS: usize = 20;
/// Single runs per round and case.
const SINGLES: u16 = 200;

/// The case that the others are measured against.
const BARE: &str = "bare redirect";

/// A case and what it measured so far.
struct Case {
    name: &'static str,
    program: &'static str,
    packet: Vec<u8>,
    device: u32,
    redirects: bool,
    /// Mean times of a run, in this round.
    means: Vec<Duration>,
    series: Series,
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

/// Measures the bare redirect, which comes first, and the cases whose name contains `only`;
/// without it, everything. In nanoseconds, one value for each round.
pub fn run(rounds: usize, only: Option<&str>) -> Result<Vec<Series>> {
    let devices = netns::enter()?;
    let world = World::new(devices.tunnels);
    let kernel = Kernel::load(&world, &devices, 1 << 20)?;
    let mut cases = cases(&devices)?;
    if let Some(only) = only {
        cases.retain(|case| case.name == BARE || case.name.contains(only));
    }
    let mut new = Series::new("new flow (entered)");
    let mut old = Series::new("established, second packet");
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
        for case in &mut cases {
            case.series.rounds.push(median(&case.means));
            case.means.clear();
        }
        if only.is_none() {
            let bare = cases[0].series.rounds.last().copied().unwrap_or(0.0);
            let [bare_once, new_once, old_once] = singles(&kernel, &devices, &mut flows)?;
            new.rounds.push(new_once - bare_once + bare);
            old.rounds.push(old_once - bare_once + bare);
        }
    }
    let mut all: Vec<_> = cases.into_iter().map(|case| case.series).collect();
    if only.is_none() {
        all.extend([new, old]);
    }
    Ok(all)
}

/// Medians of single runs: the bare redirect, a new flow, and the same flow once more.
fn singles(kernel: &Kernel, devices: &Devices, flows: &mut u32) -> Result<[f64; 3]> {
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..SINGLES {
        let fresh = new_flow(*flows)?;
        *flows += 1;
        let bare = kernel.run(REDIRECT, &fresh, devices.lan, 1)?;
        let new = kernel.ingress(devices, &fresh)?;
        let old = kernel.ingress(devices, &fresh)?;
        ensure!(new.redirected && old.redirected, "new flow");
        for (times, ran) in times.iter_mut().zip([bare, new, old]) {
            times.push(ran.duration);
        }
    }
    Ok(times.each_ref().map(|times| median(times)))
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
            series: Series::new(name),
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
            series: Series::new(name),
        })
    };
    let mut bare = ingress(BARE, "", true)?;
    bare.program = REDIRECT;
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
fn median(times: &[Duration]) -> f64 {
    let nanos: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e9).collect();
    Spread::of(&nanos).map_or(0.0, |times| times.median)
}
