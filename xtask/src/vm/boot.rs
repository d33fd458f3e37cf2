//! One virtual machine, from its start to its end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::kernels::Kernel;
use crate::process::{line, run};

const QEMU: &str = "qemu-system-x86_64";
/// Emulated processors have tests in two threads, and packets between.
const PROCESSORS: &str = "2";
/// The first file system is in memory, twice while it is unpacked.
const MEMORY_MIB: &str = "2048";
/// `mitigations=off`: their cost is multiplied by emulation. `panic=-1`: a dead machine ends at once, and
/// so does one that would go on after an oops. `loglevel=5`: warnings are for us. `nosoftlockup`: a busy
/// host is no fault of the kernel's.
const COMMAND_LINE: &str =
    "console=ttyS0 panic=-1 oops=panic loglevel=5 nosoftlockup nokaslr mitigations=off";

/// Who runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accel {
    /// Emulation, which works everywhere.
    Tcg,
    /// The processor, where `/dev/kvm` is usable.
    Kvm,
}

/// What a machine is made of.
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
    pub(crate) initramfs: PathBuf,
    /// Where the kernel's own messages go.
    pub(crate) console: PathBuf,
    pub(crate) accel: Accel,
}

impl Machine {
    /// The emulator's command line. The first serial port is the kernel's console, the second is for
    /// tests, so that neither breaks into the other's lines.
    fn command(&self, mut command: Command, second_port: &str) -> Command {
        let accel = match self.accel {
            Accel::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
        };
        command
            .args(["-machine", "pc"])
            .args(accel)
            .args(["-smp", PROCESSORS, "-m", MEMORY_MIB])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-serial", &format!("file:{}", self.console.display())])
            .args(["-serial", second_port])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", COMMAND_LINE]);
        command
    }

    /// The command line, to be pasted.
    pub(crate) fn line(&self) -> String {
        line(&self.command(Command::new(QEMU), "mon:stdio"))
    }

    /// Runs the machine at this terminal.
    pub(crate) fn at_terminal(&self) -> Result<()> {
        run(&mut self.command(bound(), "mon:stdio"))
    }

    /// Runs the machine and gives `read` each line that it prints. It is stopped when nothing else was
    /// heard for `limit` than lines for which `read` gives no new limit.
    pub(crate) fn run(
        &self,
        mut limit: Duration,
        mut read: impl FnMut(&str) -> Option<Duration>,
    ) -> Result<()> {
        let mut command = self.command(bound(), "stdio");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map(Running)
            .with_context(|| line(&command))?;
        let stdout = child.0.stdout.take().context("no pipe to the machine")?;
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for text in BufReader::new(stdout).split(b'\n') {
                let Ok(text) = text else { return };
                let text = String::from_utf8_lossy(&text);
                if sender.send(text.trim_end_matches('\r').to_owned()).is_err() {
                    return;
                }
            }
        });
        let mut since = Instant::now();
        loop {
            match lines.recv_timeout(limit.saturating_sub(since.elapsed())) {
                Ok(text) => {
                    if let Some(next) = read(&text) {
                        (since, limit) = (Instant::now(), next);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("stopped: no next step within {} s", limit.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = reader.join();
        let status = child.0.wait()?;
        if !status.success() {
            bail!("`{}` failed ({status})", line(&command));
        }
        Ok(())
    }

    /// The kernel's messages.
    pub(crate) fn messages(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of them.
    pub(crate) fn last_words(&self) -> String {
        let text = self.messages();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// The emulator, killed by the kernel when we are killed.
fn bound() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]);
    command
}

/// An emulator that does not outlive what waits for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_ends_with_the_process_that_started_it() {
        // A shell in our place, which is killed.
        let command = line(bound().arg("--version"));
        let started = command.replace(&format!("{QEMU} --version"), "sleep 60");
        let mut shell = Command::new("sh")
            .args(["-c", &format!("{started} & echo $!; wait")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut process = String::new();
        let mut stdout = BufReader::new(shell.stdout.take().expect("a pipe"));
        stdout.read_line(&mut process).expect("a number");
        let state = PathBuf::from(format!("/proc/{}/comm", process.trim()));
        let until = |is_done: &dyn Fn() -> bool| {
            let end = Instant::now() + Duration::from_secs(20);
            while !is_done() {
                assert!(Instant::now() < end, "{command}");
                thread::sleep(Duration::from_millis(5));
            }
        };
        until(&|| fs::read_to_string(&state).is_ok_and(|name| name == "sleep\n"));
        shell.kill().expect("it runs");
        shell.wait().expect("it ends");
        // Nobody need have asked for its status yet.
        let gone = || {
            let stat = fs::read_to_string(state.with_file_name("stat"));
            stat.is_ok_and(|stat| stat.contains(" Z ")) || !state.exists()
        };
        until(&gone);
    }
}
