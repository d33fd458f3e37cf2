//! Reading and writing maps in ways that aya 0.14 does not offer: in batches, and of any size.
//!
//! One system call brings thousands of entries: a table of a million flows is
//! read in a fraction of a second instead of seconds.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::{MapData, MapType};

/// Entries asked for at once; a bucket of the table must fit.
const BATCH: usize = 4_096;
/// `BPF_MAP_LOOKUP_ELEM` of `enum bpf_cmd` (`linux/bpf.h`).
const LOOKUP: libc::c_long = 1;
/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` (`linux/bpf.h`).
const LOOKUP_BATCH: libc::c_long = 24;

/// `BPF_MAP_UPDATE_BATCH` of `enum bpf_cmd` (`linux/bpf.h`).
const UPDATE_BATCH: libc::c_long = 26;

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
    let mut portions = Portions::default();
    while let Some(portion) = portions.next(map)? {
        portion.for_each(|(key, value)| visit(key, value));
    }
    Ok(())
}

/// All entries of a hash, some thousands at a time.
///
/// Entries that come or go meanwhile may be seen or not.
pub(super) struct Portions<const K: usize, const V: usize> {
    keys: Vec<[u8; K]>,
    values: Vec<[u8; V]>,
    /// Opaque to userspace, at least as large as a key (kernel/bpf/hashtab.c uses a u32).
    cursor: [u8; 256],
    is_first: bool,
    is_over: bool,
}

impl<const K: usize, const V: usize> Default for Portions<K, V> {
    fn default() -> Self {
        Self {
            keys: vec![[0; K]; BATCH],
            values: vec![[0; V]; BATCH],
            cursor: [0; 256],
            is_first: true,
            is_over: false,
        }
    }
}

impl<const K: usize, const V: usize> Portions<K, V> {
    /// The next portion; `None` after the last one. It has to be the same map each time.
    pub(super) fn next(
        &mut self,
        map: &MapData,
    ) -> io::Result<Option<impl Iterator<Item = (&[u8; K], &[u8; V])>>> {
        if self.is_over {
            return Ok(None);
        }
        let count = loop {
            let cursor = self.cursor.as_mut_ptr() as u64;
            let mut attributes = Attributes {
                in_batch: if self.is_first { 0 } else { cursor },
                out_batch: cursor,
                keys: self.keys.as_mut_ptr() as u64,
                values: self.values.as_mut_ptr() as u64,
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
            self.is_over = match error {
                None => false,
                Some(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Some(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Some(error) => return Err(error),
            };
            break attributes.count as usize;
        };
        self.is_first = false;
        Ok(Some(self.keys.iter().zip(&self.values).take(count)))
    }
}

/// Writes elements of an array.
///
/// In one system call, which the kernel finishes even for a process that is being killed
/// (`generic_map_update_batch` in `kernel/bpf/syscall.c` looks for no signal): of a crash, all are written or none.
pub(super) fn set_all<const V: usize>(
    map: &MapData,
    elements: &[(u32, [u8; V])],
) -> io::Result<()> {
    if elements.is_empty() {
        return Ok(());
    }
    let keys: Vec<u32> = elements.iter().map(|(key, _)| *key).collect();
    let values: Vec<[u8; V]> = elements.iter().map(|(_, value)| *value).collect();
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(elements.len()).map_err(io::Error::other)?,
        map_fd: u32::try_from(map.fd().as_fd().as_raw_fd()).expect("an open descriptor"),
        ..Attributes::default()
    };
    // SAFETY: the pointers are to `count` keys of an array, four bytes each, and as many values of the size that
    // `Records` compared with the map's; they live through the call, and the kernel only reads them.
    let status = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            UPDATE_BATCH,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The members of `union bpf_attr` for a single element (`linux/bpf.h`).
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The first element of an array, whatever its size.
pub(super) fn first_element(map: &MapData) -> io::Result<Vec<u8>> {
    let info = map.info().map_err(io::Error::other)?;
    if !matches!(info.map_type(), Ok(MapType::Array)) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let key = 0_u32;
    let mut value = vec![0_u8; info.value_size() as usize];
    let mut attributes = ElementAttributes {
        map_fd: u32::try_from(map.fd().as_fd().as_raw_fd()).expect("an open descriptor"),
        reserved: 0,
        key: (&raw const key) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: an array's key has four bytes, and `value` has the size that the map says; both live
    // through the call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LOOKUP,
            &raw mut attributes,
            size_of::<ElementAttributes>(),
        )
    };
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}
