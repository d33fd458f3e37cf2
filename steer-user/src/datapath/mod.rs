//! The only door to aya: the object, the maps, the hooks and their pins.

mod batch;
mod error;
mod link;
mod load;
pub mod maps;
pub mod mover;
pub mod object;
pub mod pins;
pub mod programs;
mod records;

pub use error::DatapathError;
