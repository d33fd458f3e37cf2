//! The program tier: the packet table and random packets on the loaded program.

use std::{env, str::FromStr};

use steer_common::abi::{Admin, Health, MSS_CLAMP_MTU};
use steer_tests::{
    packets::{
        build::{self, Arrival},
        random::Random,
        recipe::{Hook, Recipe},
        row::{Case, PacketTable},
        traffic::Traffic,
        world,
    },
    program::{
        compare::{Pair, runnable},
        netns,
    },
};

/// Why a test cannot run here is printed, and counts as skipped.
macro_rules! needs_root {
    ($name:literal) => {
        if let Some(reason) = netns::missing() {
            println!("SKIP {}: {reason}", $name);
            return;
        }
    };
}

#[test]
fn every_row() {
    needs_root!("every_row");
    let mut pair = Pair::new(64).expect("the world");
    let mut failures = Vec::new();
    let (mut tried, mut host_only) = (0, 0);
    for case in PacketTable::read().expect("the packet table").cases() {
        for recipes in case.runs() {
            match run(&mut pair, &case, &recipes) {
                Ok(true) => tried += 1,
                Ok(false) => host_only += 1,
                Err(error) => failures.push(format!("{}: {error:#}", case.name())),
            }
        }
    }
    println!("{tried} runs; {host_only} more cannot be test runs: host only");
    assert!(
        failures.is_empty(),
        "{} runs fail\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// One row in a fresh world; whether it can be run here.
fn run(pair: &mut Pair, case: &Case<'_>, recipes: &[Recipe]) -> anyhow::Result<bool> {
    let arrivals: Option<Vec<Arrival>> = recipes
        .iter()
        .map(|recipe| runnable(build::arrival(recipe)))
        .collect();
    let Some(arrivals) = arrivals else {
        return Ok(false);
    };
    let fate = &case.row.fate;
    pair.restart(|settings| settings.mss_clamp = fate.mss_clamp)?;
    for (arrival, left) in arrivals.iter().zip((0..arrivals.len()).rev()) {
        if left == 0 && fate.wait_secs > 0 && !pair.wait(fate.wait_secs)? {
            println!("{}: the machine is up for too short", case.name());
            return Ok(false);
        }
        pair.send(arrival)?;
    }
    Ok(true)
}

/// A tunnel's MTU is known before anything was ever sent through it.
#[test]
fn the_first_packet_of_all_has_its_mss_lowered() {
    needs_root!("the_first_packet_of_all_has_its_mss_lowered");
    let mut pair = Pair::new(64).expect("the world");
    pair.set_settings(|settings| settings.mss_clamp = MSS_CLAMP_MTU)
        .expect("the settings");
    for (hook, device) in [(Hook::Tunnel, 0), (Hook::Return, 1)] {
        let syn = Recipe {
            hook: Some(hook),
            device: Some(device),
            flags: "S".into(),
            tcp_options: vec![2, 4, 0x05, 0xb4],
            ..Recipe::default()
        };
        pair.send(&build::arrival(&syn)).expect("alike");
    }
    assert_eq!(pair.host.counters().clamped_mss, 2);
}

/// How many random packets are sent, unless `STEER_PACKETS` says otherwise.
const PACKETS: usize = 20_000;
/// After as many, everything starts anew: long before a fragment is too old on one side only, because
/// the clocks differ by a moment, or one must make room.
const RUN: usize = 10_000;

/// A number that can be given.
fn given<T: FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_packets() {
    needs_root!("random_packets");
    // Fixed, so that a run can be repeated.
    let seed = given("STEER_SEED").unwrap_or(1);
    let packets = given("STEER_PACKETS").unwrap_or(PACKETS);
    println!("STEER_SEED={seed}");
    let mut traffic = Traffic::new(seed, &Hook::ALL);
    let mut pair = Pair::new(65_536).expect("the world");
    let mut sent = 0;
    while sent < packets {
        if sent % RUN == 0 {
            pair.restart(|_| {}).expect("a new world");
            let table = world::table(&[(0, 1), (1, 1)]);
            pair.set_table(0, table).expect("its first table");
        }
        if traffic.random().one_in(40) {
            change(traffic.random(), &mut pair);
        }
        let Some(arrival) = runnable(traffic.arrival()) else {
            continue;
        };
        if let Err(error) = pair.send(&arrival) {
            panic!("STEER_SEED={seed}, packet {sent}: {error:#}");
        }
        sent += 1;
    }
    println!(
        "{sent} packets; of the last run {} flows, passed {:?}, {:?}",
        pair.host.flow_count(),
        pair.host.pass_counters(),
        pair.host.counters()
    );
}

/// Something happens to the gateway.
fn change(random: &mut Random, pair: &mut Pair) {
    let id = random.pick(&[0_u8, 1, 2, 3, 4]);
    let changed = match random.below(14) {
        0 => pair.bump_epoch(),
        1 => {
            let weights = [(0, random.pick(&[1, 3])), (1, random.pick(&[0, 1, 3]))];
            pair.set_table(0, world::table(&weights))
        }
        2 | 3 => {
            let clamp = random.pick(&[0, 1, 536, 1_300]);
            pair.set_settings(|settings| settings.mss_clamp = clamp)
        }
        _ => {
            let admin = random.pick(&[Admin::Active, Admin::Active, Admin::Drain, Admin::Disabled]);
            let health = random.pick(&[Health::Up, Health::Up, Health::Degraded, Health::Down]);
            let ifindex = pair.devices.tunnels[usize::from(id)];
            pair.set_tunnel(id, world::tunnel(ifindex, admin, health))
        }
    };
    changed.expect("the change");
}
