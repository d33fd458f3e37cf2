//! The packet table: packets as readable rows, and what the packet path makes of them.
//!
//! A row (`tests/packets/*.toml`) is built into bytes and judged twice: by
//! `steer-common` on the host, over the maps of [`host`], and by the program
//! in the kernel ([`crate::program`]). [`random`] makes rows without number.

pub mod build;
pub mod host;
pub mod random;
pub mod rewrite;
pub mod row;
pub mod world;
