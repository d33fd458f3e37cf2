//! Reading a hash map in batches, which aya 0.14 does not offer.
//!
//! One system call brings thousands of entries: a table of a million flows is
//! read in a fraction of a second instead of seconds.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::MapData;

/// Entries asked for at once; a bucket of the table must fit.
const BATCH: usize = 4_096;
/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` (`linux/bpf.h`).
const LOOKUP_BATCH: libc::c_long = 24;

/// The `batch` member of `union bpf_attr` (`linux/bpf.h`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `visit` with key and value of every entry.
///
/// Entries that come or go meanwhile may be seen or not.
pub(super) fn for_each<const K: usize, const V: usize>(
    map: &MapData,
    mut visit: impl FnMut(&[u8; K], &[u8; V]),
) -> io::Result<()> {
    let mut keys = vec![[0_u8; K]; BATCH];
    let mut values = vec![[0_u8; V]; BATCH];
    // Opaque to userspace, at least as large as a key (kernel/bpf/hashtab.c uses a u32).
    let mut cursor = [0_u8; 256];
    let mut is_first = true;
    loop {
        let mut attributes = Attributes {
            in_batch: if is_first { 0 } else { cursor.as_ptr() as u64 },
            out_batch: cursor.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(BATCH).expect("a small constant"),
            map_fd: u32::try_from(map.fd().as_fd().as_raw_fd()).expect("an open descriptor"),
            ..Attributes::default()
        };
        // SAFETY: the pointers are to buffers of `count` keys and values, and to a cursor, which
        // live through the call; the kernel writes no more than that.
        let status = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                &raw mut attributes,
                size_of::<Attributes>(),
            )
        };
        let error = (status < 0).then(io::Error::last_os_error);
        let is_last = match error {
            None => false,
            Some(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Some(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            Some(error) => return Err(error),
        };
        let count = attributes.count as usize;
        for (key, value) in keys.iter().zip(&values).take(count) {
            visit(key, value);
        }
        if is_last {
            return Ok(());
        }
        is_first = false;
    }
}
