//! The packet table: packets as readable rows, and what the packet path makes of them.
//!
//! A row (`tests/packets/*.toml`) is built into bytes and judged twice: by
//! `steer-common` on the host, over the maps of [`host`], and by the program
//! in the kernel ([`crate::program`]). [`traffic`] makes packets without
//! number, and `docs/packets.md` is made from the same rows.

pub mod build;
pub mod document;
pub mod host;
pub mod programs;
pub mod random;
pub mod recipe;
pub mod rewrite;
pub mod row;
pub mod traffic;
mod transport;
pub mod world;
