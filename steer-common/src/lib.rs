//! The logic of steer's packet path.
//!
//! Everything that decides about a packet lives here, free of kernel and
//! clock, so that the program in the kernel and the tests on the host run the
//! very same code. `steer-ebpf` adds map pointers and helpers, `steer-user`
//! writes the maps whose layout [`abi`] owns.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
