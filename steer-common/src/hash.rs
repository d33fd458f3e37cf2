//! The flow hash and the choice of a bucket.
//!
//! Both gateways must get the same number for both directions of a flow,
//! whatever their byte order, so the hash runs over the canonical key and
//! reads it little-endian. The kernel's `skb->hash` is no substitute: locally
//! it is the socket's random txhash and changes after a TCP time-out
//! (`net/core/sock.c`, `sk_rethink_txhash`).

use crate::abi::{BUCKETS, FlowKey};

/// Odd multiplier from the `SplitMix64` generator (Steele, Lea, Flood 2014).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn absorb(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(MULTIPLIER);
    mixed ^ (mixed >> 32)
}

/// Spreads every bit of `x` over all 64: the finaliser of `MurmurHash3`.
#[inline(always)]
pub const fn finish(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[inline(always)]
fn halves(addr: &[u8; 16]) -> [u64; 2] {
    let [low, high] = bytemuck::must_cast::<[u8; 16], [u64; 2]>(*addr);
    [u64::from_le(low), u64::from_le(high)]
}

/// Hash of both directions of a flow.
#[inline(always)]
pub fn flow_hash(seed: u64, key: &FlowKey) -> u64 {
    let [low0, low1] = halves(&key.low_addr);
    let [high0, high1] = halves(&key.high_addr);
    let ports =
        u64::from(key.low_port) | u64::from(key.high_port) << 16 | u64::from(key.protocol) << 32;
    let mut state = absorb(seed, low0);
    state = absorb(state, low1);
    state = absorb(state, high0);
    state = absorb(state, high1);
    finish(absorb(state, ports))
}

/// The bucket of a hash, 0 to [`BUCKETS`] − 1, by multiplication instead of division (Lemire 2019).
#[inline(always)]
pub const fn bucket_of(hash: u64) -> u32 {
    (((hash >> 32) * BUCKETS as u64) >> 32) as u32
}

/// The hash for the next attempt when the bucket of this one has no usable tunnel.
#[inline(always)]
pub const fn next_attempt(hash: u64) -> u64 {
    finish(hash.wrapping_add(MULTIPLIER))
}
