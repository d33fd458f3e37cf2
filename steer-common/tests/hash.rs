//! The flow hash: fixed numbers, symmetry, avalanche, uniformity.

use proptest::prelude::*;
use steer_common::{
    abi::{BUCKETS, FlowKey},
    hash::{bucket_of, flow_hash, next_attempt},
    key::{has_number, mapped},
    parse::Parsed,
};

const SEED: u64 = 0x5eed_5eed_5eed_5eed;

fn key(src: [u8; 16], dst: [u8; 16], src_port: u16, dst_port: u16, protocol: u8) -> FlowKey {
    let mut key = Parsed::EMPTY.key;
    let words = bytemuck::must_cast::<[u8; 16], [u64; 2]>;
    key.set(words(src), words(dst), src_port, dst_port, protocol);
    key
}

fn tcp_v4(src_port: u16) -> FlowKey {
    key(
        mapped([10, 1, 0, 2]),
        mapped([10, 2, 0, 2]),
        src_port,
        443,
        6,
    )
}

fn v6(last: u8) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&[0xfd, 0, 0, last]);
    addr[15] = last;
    addr
}

/// Two gateways of different versions must place alike: these numbers never change.
#[test]
fn golden_vectors() {
    let vectors = [
        (0, tcp_v4(40_000), GOLDEN[0]),
        (SEED, tcp_v4(40_000), GOLDEN[1]),
        (SEED, tcp_v4(40_001), GOLDEN[2]),
        (SEED, key(v6(1), v6(2), 5353, 53, 17), GOLDEN[3]),
        (
            u64::MAX,
            key(mapped([192, 0, 2, 1]), mapped([198, 51, 100, 7]), 0, 0, 47),
            GOLDEN[4],
        ),
        (1, key([0; 16], [0; 16], 0, 0, 0), GOLDEN[5]),
    ];
    for (seed, key, expected) in vectors {
        let hash = flow_hash(seed, &key);
        assert_eq!(hash, expected, "seed {seed:#x}, {key:?}: got {hash:#018x}");
    }
}

/// From a separate implementation of the definition, in another language.
const GOLDEN: [u64; 6] = [
    0xb2bb_856a_94e4_b98f,
    0xf353_0a89_f290_57c5,
    0xeee0_c9e1_d2e2_f707,
    0x9765_ef1c_8cdd_a2f6,
    0xbabc_f1c8_c29d_c841,
    0x4abb_e378_75cf_ba9c,
];

#[test]
fn buckets_cover_the_table_and_nothing_else() {
    assert_eq!(bucket_of(0), 0);
    assert_eq!(bucket_of(u64::MAX) as usize, BUCKETS - 1);
    assert_eq!(bucket_of(0xffff_ffff), 0, "the low half plays no part");
}

#[test]
fn attempts_do_not_repeat() {
    let mut hash = flow_hash(SEED, &tcp_v4(1));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1_000 {
        assert!(seen.insert(hash));
        hash = next_attempt(hash);
    }
}

proptest! {
    #[test]
    fn both_directions_hash_alike(
        seed: u64,
        src: [u8; 16],
        dst: [u8; 16],
        src_port: u16,
        dst_port: u16,
        protocol in prop_oneof![any::<u8>(), Just(47_u8), Just(50), Just(51), Just(115)],
    ) {
        let there = key(src, dst, src_port, dst_port, protocol);
        // The halves of one number (an SPI, a GRE key) do not change sides with the addresses.
        let back = if has_number(protocol) {
            key(dst, src, src_port, dst_port, protocol)
        } else {
            key(dst, src, dst_port, src_port, protocol)
        };
        prop_assert_eq!(there, back);
        prop_assert_eq!(flow_hash(seed, &there), flow_hash(seed, &back));
    }
}

/// Bits of a key that some flow uses: addresses, ports, the protocol's low byte; and of the seed.
const INPUT_BITS: usize = (16 + 16 + 2 + 2 + 1) * 8 + 64;

fn flip(seed: &mut u64, key: &mut FlowKey, bit: usize) {
    let (byte, mask) = (bit / 8, 1_u8 << (bit % 8));
    match byte {
        0..16 => key.low_addr[byte] ^= mask,
        16..32 => key.high_addr[byte - 16] ^= mask,
        32..34 => key.low_port ^= u16::from(mask) << (8 * (byte - 32)),
        34..36 => key.high_port ^= u16::from(mask) << (8 * (byte - 34)),
        36 => key.protocol ^= u32::from(mask),
        _ => *seed ^= u64::from(mask) << (8 * (byte - 37)),
    }
}

/// `SplitMix64`, so that the samples are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
}

/// Each input bit flips each of the 32 output bits that choose the bucket with a chance of one
/// half. With 4,000 samples the standard deviation is 0.0079; of the 11,520 pairs the worst is
/// expected near 4 of them, so 0.04 (5 of them) separates chance from structure.
#[test]
fn avalanche() {
    const SAMPLES: u32 = 4_000;
    let mut random = Random(1);
    let mut worst = 0.0_f64;
    for bit in 0..INPUT_BITS {
        let mut flips = [0_u32; 64];
        for sample in 0..SAMPLES {
            // Real keys differ in few places: a sequential port, an address from a small network.
            let mut key = tcp_v4(1_024 + u16::try_from(sample).unwrap_or(0));
            key.low_addr[15] = random.next().to_le_bytes()[0];
            key.high_addr[14] = random.next().to_le_bytes()[0];
            let mut seed = SEED;
            let before = flow_hash(seed, &key);
            flip(&mut seed, &mut key, bit);
            let changed = before ^ flow_hash(seed, &key);
            for (output, count) in flips.iter_mut().enumerate() {
                *count += u32::from(changed >> output & 1 == 1);
            }
        }
        for (output, &count) in flips.iter().enumerate().skip(32) {
            let bias = (f64::from(count) / f64::from(SAMPLES) - 0.5).abs();
            worst = worst.max(bias);
            assert!(bias < 0.04, "input bit {bit}, output bit {output}: {bias}");
        }
    }
    println!("avalanche: worst bias {worst:.4} over {INPUT_BITS} input bits");
}

/// Chi-square over the buckets in 256 groups of 256 (one of 257), as a number of standard deviations.
fn deviation(keys: impl Iterator<Item = FlowKey>) -> f64 {
    const BINS: u16 = 256;
    let mut counts = [0_u32; BINS as usize];
    let mut total = 0;
    for key in keys {
        let bucket = bucket_of(flow_hash(SEED, &key)) as usize;
        counts[bucket * usize::from(BINS) / BUCKETS] += 1;
        total += 1;
    }
    let expected = f64::from(total) / f64::from(BINS);
    let chi_square: f64 = counts
        .iter()
        .map(|&count| (f64::from(count) - expected).powi(2) / expected)
        .sum();
    let freedom = f64::from(BINS - 1);
    (chi_square - freedom) / (2.0 * freedom).sqrt()
}

/// What real networks send: everything sequential. A hash that is uniform stays within a few
/// standard deviations, one that leaves structure is hundreds away.
#[test]
fn structured_inputs_spread_evenly() {
    let host = |n: u32| {
        let [_, _, c, d] = n.to_be_bytes();
        mapped([10, 1, c, d])
    };
    let server = mapped([10, 2, 0, 2]);
    let port = |n: u32| u16::try_from(n & 0xffff).unwrap_or(0);
    let cases: [(&str, f64); 6] = [
        (
            "sequential source ports",
            deviation((0..65_536).map(|n| key(host(2), server, port(n), 443, 6))),
        ),
        (
            "even source ports (Linux connect)",
            deviation((0..32_768).map(|n| key(host(2), server, port(n * 2), 443, 6))),
        ),
        (
            "sequential addresses, fixed ports",
            deviation((0..65_536).map(|n| key(host(n), server, 5_000, 5_000, 17))),
        ),
        (
            "sequential addresses on both sides",
            deviation((0..65_536_u32).map(|n| {
                let [_, _, c, d] = n.to_be_bytes();
                key(host(u32::from(c)), mapped([10, 2, 0, d]), 0, 0, 50)
            })),
        ),
        (
            "sequential IPv6 interface identifiers",
            deviation((0..65_536_u32).map(|n| {
                let mut src = v6(1);
                src[12..].copy_from_slice(&n.to_be_bytes());
                key(src, v6(2), 0, 0, 58)
            })),
        ),
        (
            "echo identifiers",
            deviation((0..65_536).map(|n| key(host(2), server, port(n), port(n), 1))),
        ),
    ];
    for (name, deviation) in cases {
        println!("{name}: {deviation:+.2} standard deviations");
        assert!(deviation.abs() < 4.0, "{name}: {deviation}");
    }
}
