//! The tunnels' states in memory that is shared with the packet path.
//!
//! A tunnel's word has two owners: operators, who say what they want of it under the write lock, and the
//! daemon, which must not wait for that lock to say that it is dead. So the daemon changes its part by
//! compare-and-swap, which undoes nobody's change.

use std::{
    io,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use steer_common::abi::{TUNNELS_MAX, Tunnel, TunnelId};

const BYTES: usize = TUNNELS_MAX * size_of::<AtomicU64>();
const _: () = assert!(size_of::<Tunnel>() == size_of::<AtomicU64>());

/// The words of all tunnels, there as long as this is.
pub struct TunnelWords {
    first: NonNull<AtomicU64>,
}

// SAFETY: the memory stays until this is dropped, and is used by atomic operations only.
unsafe impl Send for TunnelWords {}
// SAFETY: as above.
unsafe impl Sync for TunnelWords {}

impl TunnelWords {
    /// Those of the map `tunnels`.
    pub(super) fn of(map: impl AsFd) -> io::Result<Self> {
        let length = std::num::NonZeroUsize::new(BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, anywhere.
        let memory = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self {
            first: memory.cast(),
        })
    }

    /// Changes a tunnel's state to what `change` makes of it, unless that is `None`; gives what it was if it was
    /// changed. `change` is asked again when somebody else was faster.
    pub fn update(
        &self,
        id: TunnelId,
        change: impl Fn(Tunnel) -> Option<Tunnel>,
    ) -> Option<Tunnel> {
        let next = |word| Some(bytemuck::cast(change(Tunnel::from_word(word)?)?));
        let word = self.word(id);
        let before = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        Tunnel::from_word(before.ok()?)
    }

    fn word(&self, id: TunnelId) -> &AtomicU64 {
        // SAFETY: there is a word for every number that an id can have (`TUNNELS_MAX`).
        unsafe { self.first.add(id.into()).as_ref() }
    }
}

impl Drop for TunnelWords {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and nothing refers to it any more.
        let _ = unsafe { munmap(self.first.cast(), BYTES) };
    }
}
