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

/// Ends the command when the thread that starts it does, and so with a test or benchmark that is killed.
pub(crate) fn dies_with_us(command: &mut Command) -> &mut Command {
    let ask = || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
            .map_err(std::io::Error::from)
    };
    // SAFETY: prctl is a bare system call; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(ask) }
}

/// Ends a child of ours and takes its exit status, so that no zombie stays.
pub(super) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_process_ends_with_the_thread_that_started_it() -> std::io::Result<()> {
        let start = || dies_with_us(Command::new("sleep").arg("60")).spawn();
        let mut child = std::thread::spawn(start)
            .join()
            .expect("it does not panic")?;
        assert_eq!(child.wait()?.signal(), Some(9));
        Ok(())
    }
}
