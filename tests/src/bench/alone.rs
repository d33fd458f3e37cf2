//! One benchmark at a time, on a machine without what a killed one left.

use std::{fs, path::Path};

use anyhow::Result;

use super::field;
use crate::lab::{Lab, Owner};
use crate::steerctl::Gateway;

const DIR: &str = "/run/steer-bench";

/// As long as it lives, no other benchmark starts.
#[derive(Debug)]
pub struct Alone {
    _owner: Owner,
}

impl Alone {
    /// Refuses while another benchmark runs; removes the labs and gateways of one that was killed.
    pub fn new() -> Result<Self> {
        let owner = Owner::take(Path::new(DIR), "steer-bench")?;
        Gateway::sweep()?;
        Lab::down(field::NAME)?;
        Ok(Self { _owner: owner })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Left behind, it would be in nobody's way.
        let _ = fs::remove_dir_all(DIR);
    }
}
