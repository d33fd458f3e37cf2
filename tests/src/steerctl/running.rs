//! `steerctl run` in the foreground, as a service manager would hold it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{dies_with_us, wait};

/// How long a start, and an end, may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A `steerctl run`; killed when dropped, and with the thread that started it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its lines, from both outputs, as they come.
    lines: Receiver<(Stream, String)>,
    seen: Vec<(Stream, String)>,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

impl Running {
    /// Starts it and waits for its line `ready …`.
    pub fn ready(command: &mut Command) -> Result<Self> {
        let mut running = Self::start(command)?;
        running.until("the line `ready`", |stream, line| {
            stream == Stream::Out && line.starts_with("ready ")
        })?;
        Ok(running)
    }

    /// Starts it and waits for nothing.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = dies_with_us(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("steerctl run")?;
        let (sender, lines) = channel();
        let outputs: [(Stream, Option<Box<dyn std::io::Read + Send>>); 2] = [
            (
                Stream::Out,
                child.stdout.take().map(|pipe| Box::new(pipe) as _),
            ),
            (
                Stream::Err,
                child.stderr.take().map(|pipe| Box::new(pipe) as _),
            ),
        ];
        for (stream, pipe) in outputs {
            let pipe = pipe.context("no pipe")?;
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    // Nobody listens any more: the test is over.
                    let _ = sender.send((stream, line));
                }
            });
        }
        Ok(Self {
            child,
            lines,
            seen: Vec::new(),
        })
    }

    /// Waits for a line on standard error that contains `text`.
    pub fn says(&mut self, text: &str) -> Result<()> {
        self.says_that(text, |line| line.contains(text))
    }

    /// The same, if it did not say so already, perhaps before it was ready: two pipes have no order.
    pub fn says_or_said(&mut self, text: &str) -> Result<()> {
        let is_it =
            |(stream, line): &(Stream, String)| *stream == Stream::Err && line.contains(text);
        if self.seen.iter().any(is_it) {
            return Ok(());
        }
        self.says(text)
    }

    /// Waits for a line on standard error of which `is_it` is true.
    pub fn says_that(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<()> {
        self.until(what, |stream, line| stream == Stream::Err && is_it(line))
    }

    /// Fails unless the line that was waited for last contains `text`.
    pub fn said(&self, text: &str) -> Result<()> {
        match self.seen.last() {
            Some((_, line)) if line.contains(text) => Ok(()),
            other => bail!("{text}: not in {other:?}"),
        }
    }

    /// Waits for a line on standard output that contains `text`.
    pub fn prints(&mut self, text: &str) -> Result<()> {
        self.until(text, |stream, line| {
            stream == Stream::Out && line.contains(text)
        })
    }

    /// Waits until it ends by itself; its exit status, and all lines of its standard output.
    pub fn until_end(mut self) -> Result<(ExitStatus, Vec<String>)> {
        let status = self.ended()?;
        self.seen.extend(self.lines.iter());
        Ok((status, self.own_lines()))
    }

    fn own_lines(&mut self) -> Vec<String> {
        let all = std::mem::take(&mut self.seen).into_iter();
        all.filter(|(stream, _)| *stream == Stream::Out)
            .map(|(_, line)| line)
            .collect()
    }

    fn until(&mut self, what: &str, is_it: impl Fn(Stream, &str) -> bool) -> Result<()> {
        loop {
            match self.lines.recv_timeout(wait::here(LIMIT)) {
                Ok((stream, line)) => {
                    let found = is_it(stream, &line);
                    self.seen.push((stream, line));
                    if found {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{what}: not within {LIMIT:?}: {:?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("{what}: it ended, {status}: {:?}", self.seen)
                }
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).context("steerctl run")
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        wait::until("steerctl run: end", LIMIT, || Ok(self.child.try_wait()?))
    }

    /// Ends it in order, and gives all lines of its standard output.
    pub fn stop(self) -> Result<Vec<String>> {
        self.stop_by(Signal::SIGTERM)
    }

    /// Ends it by a signal that it must obey, and gives all lines of its standard output.
    pub fn stop_by(mut self, signal: Signal) -> Result<Vec<String>> {
        self.signal(signal)?;
        let status = self.ended()?;
        self.seen.extend(self.lines.iter());
        if !status.success() {
            bail!("steerctl run: {status}: {:?}", self.seen);
        }
        Ok(self.own_lines())
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended, most of the time.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
