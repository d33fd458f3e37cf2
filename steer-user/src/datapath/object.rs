//! The eBPF object, as build.rs made it.

use aya::include_bytes_aligned;

/// The object that this binary carries.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer-ebpf"));
