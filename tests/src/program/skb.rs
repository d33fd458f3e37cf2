//! The context of a test run: `struct __sk_buff` (`include/uapi/linux/bpf.h`).

use crate::packets::build::Arrival;

/// Bytes of the structure.
pub const SKB_BYTES: usize = 192;
const MARK: usize = 8;
const IFINDEX: usize = 40;
/// The last word of the control block that programs may use.
const MARKER: usize = 48 + 4 * 4;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// The context of a packet on a device.
pub fn context(ifindex: u32, arrival: &Arrival) -> [u8; SKB_BYTES] {
    let mut context = [0; SKB_BYTES];
    let is_merged = arrival.gso_size > 0;
    for (offset, value) in [
        (MARK, arrival.mark),
        (IFINDEX, ifindex),
        (MARKER, arrival.marker),
        (GSO_SEGS, if is_merged { arrival.segments } else { 0 }),
        (GSO_SIZE, arrival.gso_size),
    ] {
        context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

/// The packet's mark.
pub fn mark(context: &[u8; SKB_BYTES]) -> u32 {
    word(context, MARK)
}

/// What one program of ours leaves to another.
pub fn marker(context: &[u8; SKB_BYTES]) -> u32 {
    word(context, MARKER)
}

fn word(context: &[u8; SKB_BYTES], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&context[offset..offset + 4]);
    u32::from_ne_bytes(bytes)
}
