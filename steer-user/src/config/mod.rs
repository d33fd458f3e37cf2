//! The configuration file: what it may say, and what is wrong with one. Pure, but for reading and writing the file.

mod check;
pub mod edit;
mod file;
mod place;
mod problem;
mod read;
mod request;
mod schema;
mod types;
mod values;

pub use file::{FileError, NewWeights, load};
pub use problem::{ConfigError, Problem};
pub use schema::schema;
pub use types::{Config, GROUP_DEFAULT, Group, Placement, ProbeTable, Tunnel, Weights};
pub use values::Switch;

/// Where the configuration is without `--config`.
pub const CONFIG_DEFAULT: &str = "/etc/steer/steer.toml";

impl Config {
    /// Reads a configuration; all that is wrong with it is told at once.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        read::read(text)
    }
}

#[cfg(test)]
mod tests;
