//! The program tier: the packet table and random packets on the loaded program.

use std::time::Duration;

use steer_common::{abi::MSS_CLAMP_MTU, parse};
use steer_tests::{
    fuzz,
    packets::{
        build::{self, Arrival},
        recipe::{Hook, Layer, Recipe},
        row::{Case, PacketTable},
    },
    program::{
        compare::{Pair, runnable},
        differential::{self, Options},
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

/// What the fuzzer found worth keeping for the parser.
#[test]
fn every_kept_input() {
    needs_root!("every_kept_input");
    let mut pair = Pair::new(4_096).expect("the world");
    let mut sent = 0;
    for (layer, bytes) in fuzz::corpus("parse")
        .expect("the corpus")
        .iter()
        .flat_map(|input| fuzz::packets(input))
    {
        let wanted = match layer {
            parse::Layer::Ethernet => Layer::Ethernet,
            parse::Layer::Network => Layer::Network,
        };
        for hook in Hook::ALL.into_iter().filter(|hook| hook.layer() == wanted) {
            let Some(arrival) = runnable(Arrival::plain(hook, bytes.clone())) else {
                continue;
            };
            if let Err(error) = pair.send(&arrival) {
                panic!("{error:#}");
            }
            sent += 1;
        }
    }
    println!("{sent} packets");
    pair.compare().expect("alike");
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

/// What a run takes that is not told otherwise. `STEER_PACKETS=1000000` makes a long one,
/// `STEER_SEED` another one, and `STEER_FROM` compares more from a packet on.
const TIME: Duration = Duration::from_secs(20);

#[test]
fn random_packets() {
    needs_root!("random_packets");
    let options = Options::from_env(TIME).expect("numbers");
    println!("{options:?}");
    match differential::run(options) {
        Ok(summary) => println!("{summary}"),
        Err(error) => panic!("{error:#}"),
    }
}
