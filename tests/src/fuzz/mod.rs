//! What must hold for any bytes: the bodies of the fuzz targets in `fuzz/`.
//!
//! They panic when it does not. The fuzzer looks for such bytes on a nightly
//! compiler; `tests/corpus.rs` replays the inputs that it found worth keeping
//! on a stable one.

mod decide;
mod input;
mod packets;
mod parse;
mod promises;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

pub use decide::decide;
pub use parse::{packets, parse};

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 2] = [("parse", parse), ("decide", decide)];

/// The inputs of a target that are kept in `tests/corpus`, one a line in hexadecimal digits.
pub fn corpus(target: &str) -> Result<Vec<Vec<u8>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{target}.hex"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines()
        .map(|line| {
            (0..line.len() / 2)
                .map(|at| u8::from_str_radix(line.get(2 * at..2 * at + 2)?, 16).ok())
                .collect::<Option<_>>()
                .with_context(|| format!("{}: {line}", path.display()))
        })
        .collect()
}
