//! `kill -9` at random points of random changes, under traffic.
//!
//! Whatever is killed, a packet always finds a whole bucket table, that of before or that of after; no flow leaves
//! its tunnel unless that was disabled or removed; no datagram is lost; and the next start finishes what was begun.

mod changes;
mod flows;
mod run;
mod state;
mod tables;

/// So many changes, unless `STEER_STEPS` says otherwise.
const STEPS: usize = 200;

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
    let steps = number("STEER_STEPS")?.map_or(Ok(STEPS), usize::try_from)?;
    println!("STEER_SEED={seed} STEER_STEPS={steps}");
    run::all(name, seed, steps)
}
