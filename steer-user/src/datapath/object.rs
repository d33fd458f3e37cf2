//! The eBPF objects, as build.rs made them.

use aya::include_bytes_aligned;

/// The object that this binary carries.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer-ebpf"));

/// The benchmark's programs. `steerctl` does not use it and so does not carry it: the linker leaves it out.
pub static BENCH_OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer-bench-ebpf"));
