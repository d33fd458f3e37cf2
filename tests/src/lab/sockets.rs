//! Larger receive buffers for userspace WireGuard.
//!
//! Its UDP sockets have the system's default buffer, which overflows when a
//! busy machine lets the process wait for a tenth of a second. The kernel's
//! own WireGuard has no such buffer, and a test must not take the lab's loss
//! for steer's. The default is not per namespace, so the sockets are changed.

use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockType, setsockopt, sockopt};

/// Half a second of a 100 Mbit/s tunnel and more.
const BUFFER_BYTES: usize = 16 << 20;

/// Enlarges all UDP sockets of the process `pid`, a child of ours.
pub(super) fn enlarge(pid: u32) -> Result<()> {
    let process = pidfd(pid).with_context(|| format!("process {pid}"))?;
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
    let numbers = fds.filter_map(|fd| fd.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers {
        // A descriptor that is closed meanwhile, or is no socket: not ours to change.
        let Ok(fd) = duplicate(&process, number) else {
            continue;
        };
        let datagram = nix::sys::socket::getsockopt(&fd, sockopt::SockType);
        if datagram == Ok(SockType::Datagram) {
            setsockopt(&fd, sockopt::RcvBufForce, &BUFFER_BYTES).context("SO_RCVBUFFORCE")?;
            setsockopt(&fd, sockopt::SndBufForce, &BUFFER_BYTES).context("SO_SNDBUFFORCE")?;
        }
    }
    Ok(())
}

fn pidfd(pid: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

fn duplicate(process: &impl AsFd, number: i32) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd as _;
    let process = process.as_fd().as_raw_fd();
    // SAFETY: pidfd_getfd takes three numbers and touches no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) })
}

/// The descriptor that a system call made, or its error.
fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
