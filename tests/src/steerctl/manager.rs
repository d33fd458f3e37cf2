//! What a service manager hears of a service (`sd_notify(3)`).

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::wait;
use anyhow::{Context as _, Result, bail};

/// How long a word may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A service manager's ear.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Listens on a socket in this directory.
    pub fn listen(dir: &Path) -> Result<Self> {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        Ok(Self { socket, path })
    }

    /// Has a command tell what it is doing, and show every so often that it lives.
    pub fn hold(&self, command: &mut Command, watchdog: Duration) {
        command
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .env_remove("WATCHDOG_PID");
    }

    /// Waits for the message that has this word, and gives its lines.
    pub fn hears(&self, word: &str) -> Result<Vec<String>> {
        let end = Instant::now() + wait::here(LIMIT);
        let mut heard = Vec::new();
        let mut buffer = [0; 4_096];
        while let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                // This process was stopped, and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let message = String::from_utf8_lossy(&buffer[..length]);
            let lines: Vec<_> = message.lines().map(ToOwned::to_owned).collect();
            if lines.iter().any(|line| line == word) {
                return Ok(lines);
            }
            heard.push(lines);
        }
        bail!("{word}: not within {LIMIT:?}: {heard:?}")
    }
}
