//! Detaching a pinned link, now.
//!
//! Removing the pin alone detaches at some later time: the kernel leaves it to a worker
//! (`bpf_link_put`, `kernel/bpf/syscall.c`).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `BPF_OBJ_GET` of `linux/bpf.h`.
const GET: libc::c_int = 7;
/// `BPF_LINK_DETACH`.
const DETACH: libc::c_int = 34;

/// The members of `union bpf_attr` for a pin.
#[repr(C)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The link behind a pin, if there is such a pin.
pub(super) fn open(pin: &Path) -> io::Result<Option<OwnedFd>> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attributes = PinAttributes {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let link = match bpf(GET, &attributes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        link => link?,
    };
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(link) }))
}

/// Detaches a link.
pub(super) fn detach(link: &OwnedFd) -> io::Result<()> {
    let attributes = u32::try_from(link.as_raw_fd()).map_err(io::Error::other)?;
    bpf(DETACH, &attributes).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads `attributes`, and the path in them, during the call only.
    let status = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(status).map_err(io::Error::other)
}
