//! The only door to aya: the object, the maps, the hooks and their pins.

pub mod object;
