//! Processes that the lab starts and that outlive a terminal.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

/// Puts the command into a session of its own: Ctrl-C reaches the lab's owner
/// alone, which then ends the others in order, and a kept lab outlives its terminal.
pub(super) fn daemon(command: &mut Command) -> &mut Command {
    let detach = || {
        nix::unistd::setsid()
            .map(drop)
            .map_err(std::io::Error::from)
    };
    // SAFETY: setsid is a bare system call; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(detach) }
}

/// Ends a child of ours and takes its exit status, so that no zombie stays.
pub(super) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
