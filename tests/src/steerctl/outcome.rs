//! What a `steerctl` that has ended said.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::wait;

/// How long a verb that returns may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Exit status and output of one `steerctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// What a refused command says: the line, the hint, the exit status.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// 1 failed, 2 usage.
    pub code: i32,
    /// What follows `steerctl: `.
    pub message: &'a str,
    /// What follows `hint: `, when there is such a line.
    pub hint: Option<&'a str>,
}

impl Outcome {
    /// Runs a command to its end, which must come soon.
    pub fn of(command: &mut Command) -> Result<Self> {
        Self::during(command, |_| Ok(()))
    }

    /// The same, with something that happens while it runs.
    pub fn during(command: &mut Command, work: impl FnOnce(Pid) -> Result<()>) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("steerctl")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let (sender, receiver) = channel();
        let waiter = thread::spawn(move || sender.send(child.wait_with_output()));
        let worked = work(pid);
        let limit = if worked.is_ok() {
            wait::here(LIMIT)
        } else {
            Duration::ZERO
        };
        let Ok(output) = receiver.recv_timeout(limit) else {
            kill(pid, Signal::SIGKILL)?;
            // The process is reaped there.
            let _ = waiter.join();
            worked?;
            bail!("not ended within {LIMIT:?}");
        };
        worked?;
        Ok(Self::new(&output?))
    }

    /// What a finished process said, but for its wait for a lock that a daemon may hold at any moment.
    fn new(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_said = |line: &&str| !line.ends_with("waiting for another steerctl to finish\n");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: stderr.split_inclusive('\n').filter(is_said).collect(),
        }
    }

    /// Fails unless it did what it was told.
    pub fn done(self) -> Result<Self> {
        if self.code != 0 {
            bail!("exit status {}: {}", self.code, self.stderr.trim_end());
        }
        Ok(self)
    }

    /// Its JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| self.stdout.clone())
    }

    /// Fails unless it refused in exactly these words.
    pub fn refused(&self, expected: &Refusal<'_>) -> Result<()> {
        let hint = expected.hint.map(|hint| format!("hint: {hint}\n"));
        let hint = hint.unwrap_or_default();
        let stderr = format!("steerctl: {}\n{hint}", expected.message);
        let expected = Self {
            code: expected.code,
            stdout: String::new(),
            stderr,
        };
        if *self != expected {
            bail!("\nexpected {expected:#?}\n     got {self:#?}");
        }
        Ok(())
    }
}
