//! What devices do with packets on their own, as far as it matters to those who redirect them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Whether a device merges what it receives into packets that cannot be taken apart again (LRO).
pub fn has_lro(device: &str) -> io::Result<bool> {
    /// `SIOCETHTOOL` of `linux/sockios.h`.
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    /// `ETHTOOL_GFLAGS` and `ETH_FLAG_LRO` of `linux/ethtool.h`.
    const GFLAGS: u32 = 0x25;
    const LRO: u32 = 1 << 15;
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    /// `struct ifreq`, with the member of its union that is used.
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        data: *mut Value,
        rest: [u8; 16],
    }
    let mut value = Value {
        command: GFLAGS,
        data: 0,
    };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: &raw mut value,
        rest: [0; 16],
    };
    // The last byte stays zero.
    let bytes = device.bytes().take(libc::IFNAMSIZ - 1);
    for (to, from) in request.name.iter_mut().zip(bytes) {
        *to = from;
    }
    let any: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: the kernel reads the name and fills in `value` during the call only, and both live on.
    let status = unsafe { libc::ioctl(any.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data & LRO != 0)
}

/// Whether these devices have threaded NAPI: name, number, and the answer for each that tells.
///
/// `/sys` shows the devices of the namespace that it was mounted in, so a thread of its own mounts
/// it anew where it may, in a mount namespace that ends with it.
pub fn threaded_napi(devices: &[(&str, u32)]) -> Vec<(String, bool)> {
    let read = || {
        // Without the right to it, what is mounted may still be the right one.
        if let Err(error) = mount_own_sysfs() {
            log::debug!("no /sys of this namespace: {error}");
        }
        devices
            .iter()
            .filter_map(|(name, ifindex)| {
                Some(((*name).to_owned(), read_threaded(name, *ifindex)?))
            })
            .collect()
    };
    std::thread::scope(|scope| scope.spawn(read).join().unwrap_or_default())
}

fn mount_own_sysfs() -> nix::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::MS_RDONLY,
        NONE,
    )
}

fn read_threaded(name: &str, ifindex: u32) -> Option<bool> {
    let dir = Path::new("/sys/class/net").join(name);
    let number = |file: &str| -> Option<u32> {
        fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
    };
    // Another namespace's device of that name is not meant.
    let is_same = number("ifindex")? == ifindex;
    number("threaded")
        .filter(|_| is_same)
        .map(|value| value != 0)
}
