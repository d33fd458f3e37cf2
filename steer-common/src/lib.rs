//! The logic of steer's packet path.
//!
//! Everything that decides about a packet lives here, free of kernel and
//! clock, so that the program in the kernel and the tests on the host run the
//! very same code. `steer-ebpf` adds map pointers and helpers, `steer-user`
//! writes the maps whose layout [`abi`] owns.
#![no_std]
#![forbid(unsafe_code)]
#![expect(
    clippy::inline_always,
    reason = "the packet path is one function for the verifier"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "what is cast was masked, or is bounded by a table or a packet; checks cost instructions"
)]

pub mod abi;
pub mod bench;
pub mod buckets;
pub mod clamp;
pub mod decide;
pub mod hash;
pub mod key;
mod known;
pub mod learn;
pub mod moves;
pub mod packet;
pub mod parse;
pub mod related;
pub mod rewrite;
pub mod tables;
