//! TUN and TAP devices.

use std::fs::{File, OpenOptions};
use std::os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _};

use anyhow::{Context as _, Result, ensure};
use nix::libc;

/// Opens a TUN or TAP device in this thread's namespace, and makes it if there is none; reading does
/// not block. `kind` is `IFF_TUN` or `IFF_TAP`, with more flags if wanted (`linux/if_tun.h`).
pub(crate) fn open(name: &str, kind: libc::c_int) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("/dev/net/tun")?;
    // SAFETY: a request of plain numbers and pointers that are not followed; zero is valid for all.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "{name}: too long");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(kind | libc::IFF_NO_PI)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if status < 0 {
        return Err(std::io::Error::last_os_error()).context(format!("device {name}"));
    }
    Ok(file)
}
