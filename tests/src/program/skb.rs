//! The context of a test run: `struct __sk_buff` (`include/uapi/linux/bpf.h`).

/// Bytes of the structure.
const SKB_BYTES: usize = 192;
const MARK: usize = 8;
const IFINDEX: usize = 40;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// The context of a packet that enters a device.
pub fn context(ifindex: u32, gso_size: u32, gso_segs: u32) -> [u8; SKB_BYTES] {
    let mut context = [0; SKB_BYTES];
    for (offset, value) in [
        (IFINDEX, ifindex),
        (GSO_SEGS, gso_segs),
        (GSO_SIZE, gso_size),
    ] {
        context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

/// The mark of a packet.
pub fn mark(context: &[u8; SKB_BYTES]) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&context[MARK..MARK + 4]);
    u32::from_ne_bytes(bytes)
}
