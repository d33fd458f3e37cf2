//! `kill -9` at random points of random changes, under traffic.
//!
//! Whatever is killed, a packet always finds a whole bucket table, that of before or that of after; no flow leaves
//! its tunnel unless that was disabled or removed; no datagram is lost; and the next start finishes what was begun.

mod changes;
mod flows;
mod run;
mod state;
mod tables;

use std::time::{Duration, Instant};

/// So many changes, as far as they fit into the time; `STEER_STEPS` makes exactly as many as it says.
const STEPS: usize = 200;
const TIME: Duration = Duration::from_secs(45);
/// Fewer say nothing.
const STEPS_MIN: usize = 25;

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    std::env::var(name)
        .ok()
        .map(|text| Ok(text.parse()?))
        .transpose()
}

#[test]
fn killed_at_random_points_of_changes() -> anyhow::Result<()> {
    let name = "killed_at_random";
    if let Some(reason) = steer_tests::steerctl::missing() {
        println!("SKIP {name}: {reason}");
        return Ok(());
    }
    let seed = number("STEER_SEED")?.unwrap_or(1);
    let wanted = number("STEER_STEPS")?.map(usize::try_from).transpose()?;
    println!("STEER_SEED={seed} STEER_STEPS={}", wanted.unwrap_or(STEPS));
    let begin = Instant::now();
    let goes_on = |step| match wanted {
        Some(steps) => step < steps,
        None => step < STEPS && (step < STEPS_MIN || begin.elapsed() < TIME),
    };
    run::all(name, seed, goes_on)
}
