//! `steer_tests::fuzz::decide`, where the invariants are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| steer_tests::fuzz::decide(input));
