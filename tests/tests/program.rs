//! The program tier: the packet table and random packets on the loaded program.

use std::env;

use steer_common::abi::{Admin, Health};
use steer_tests::{
    packets::{build, random::Random, recipe::Hook, row::PacketTable, traffic::Traffic, world},
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
    let mut pair = Pair::new(1_024).expect("the world");
    let mut failures = Vec::new();
    let mut too_short = 0;
    for case in PacketTable::read().expect("the packet table").cases() {
        // A test run cannot make a merged packet.
        if !HOOKS.contains(&case.hook) || case.row.recipe.gso_size > 0 {
            continue;
        }
        for recipe in case.row.recipes(case.hook) {
            let layer = recipe.hook().layer();
            let Some(bytes) = runnable(layer, &build::packet(&recipe)) else {
                too_short += 1;
                continue;
            };
            if let Err(error) = pair.send(layer, &bytes, recipe.device()) {
                failures.push(format!("{}: {error:#}", case.row.fate.name));
            }
        }
    }
    println!("{too_short} rows are too short for a test run: host only");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The hooks that packets are sent through.
const HOOKS: [Hook; 2] = [Hook::Lan, Hook::Tunnel];
const PACKETS: usize = 20_000;

/// The seed of the random packets: fixed, so that a run can be repeated, or given.
fn seed() -> u64 {
    env::var("STEER_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

#[test]
fn random_packets() {
    needs_root!("random_packets");
    let seed = seed();
    println!("STEER_SEED={seed}");
    let mut traffic = Traffic::new(seed, &HOOKS);
    let mut pair = Pair::new(65_536).expect("the world");
    let mut sent = 0;
    while sent < PACKETS {
        if traffic.random().one_in(40) {
            change(traffic.random(), &mut pair);
        }
        let arrival = traffic.arrival();
        let layer = arrival.hook.layer();
        let Some(bytes) = runnable(layer, &arrival.bytes) else {
            continue;
        };
        if let Err(error) = pair.send(layer, &bytes, arrival.device) {
            panic!("STEER_SEED={seed}, packet {sent}: {error:#}");
        }
        sent += 1;
    }
    println!(
        "{sent} packets, {} flows, passed {:?}",
        pair.host.flow_count(),
        pair.host.pass_counters()
    );
}

/// Something happens to the gateway.
fn change(random: &mut Random, pair: &mut Pair) {
    let id = random.pick(&[0_u8, 1, 2, 3, 4]);
    let changed = match random.below(12) {
        0 => pair.bump_epoch(),
        1 => {
            let weights = [(0, random.pick(&[1, 3])), (1, random.pick(&[0, 1, 3]))];
            pair.set_table(0, world::table(&weights))
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
