//! `steerctl`.

fn main() {}
