//! The bodies of the fuzz targets, on the inputs that the fuzzer found worth keeping and on random ones.

use std::{fs, path::Path};

use steer_tests::{
    fuzz::{TARGETS, corpus},
    packets::random::Random,
};

#[test]
fn every_kept_input() {
    for (name, target) in TARGETS {
        let inputs = corpus(name).expect("the corpus");
        println!("{name}: {} inputs", inputs.len());

        for input in inputs {
            target(&input);
        }
    }
}

const RANDOM: usize = 3_000;

#[test]
fn random_inputs() {
    for (name, target) in TARGETS {
        let mut random = Random::new(1);
        for _ in 0..RANDOM {
            let length = random.below(300);
            target(&random.bytes(length));
        }
        println!("{name}: {RANDOM} inputs");
    }
}

#[test]
fn the_corpora_are_small() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut bytes = 0;
    for entry in fs::read_dir(dir).expect("the corpora") {
        bytes += entry.expect("a corpus").metadata().expect("its size").len();
    }
    assert!(bytes <= 300 * 1_024, "{bytes} bytes");
}
