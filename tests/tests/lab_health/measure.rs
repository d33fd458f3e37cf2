//! Not a test: how long detection and recovery take. `cargo test --release -p steer-tests --test lab_health --
//! --ignored --nocapture`
