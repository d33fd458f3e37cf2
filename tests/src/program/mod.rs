//! The program in the kernel, loaded into maps of its own and called by
//! `BPF_PROG_TEST_RUN`: no hook, no pin, no packet on a wire.

pub mod bench;
pub mod bpftool;
pub mod compare;
mod control;
pub mod differential;
pub mod kernel;
pub mod moves;
pub mod netns;
mod past;
pub mod skb;
pub mod wire;
