//! What only the benchmark loads: its source, its sinks, and the least a program can do to forward.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        clippy::inline_always,
        reason = "a packet is one function for the verifier"
    ),
    expect(
        clippy::cast_possible_truncation,
        reason = "numbers of the kernel's interface, each known to fit its type there"
    ),
    expect(
        clippy::needless_pass_by_value,
        reason = "the signature that aya's macro wants"
    )
)]

#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier accepts no loop without end, so a program with a reachable panic does not load.
    loop {}
}

/// The kernel lends some helpers to GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// On the host there is nothing to run: the package compiles there so that it is linted.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
