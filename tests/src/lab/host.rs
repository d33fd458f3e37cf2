//! One host of the lab: a network namespace, and a private `/run/wireguard`.
//!
//! Userspace WireGuard keeps its sockets in `/var/run/wireguard`, which all
//! namespaces share. Every command of a host therefore runs in its own mount
//! namespace where that directory is the host's own, so that both gateways can
//! have a `wg0`. Everything else (`/sys/fs/bpf`, `/proc`) stays as it is.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;

/// Where userspace WireGuard looks for its sockets.
const WIREGUARD_DIR: &str = "/run/wireguard";

/// Makes a directory below one that whoever is the last to leave removes.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    loop {
        match std::fs::create_dir_all(dir) {
            // That was this very moment.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            made => return made.with_context(|| format!("{}: cannot be made", dir.display())),
        }
    }
}

/// A network namespace of the lab.
#[derive(Debug, Clone)]
pub struct Host {
    netns: String,
    dir: PathBuf,
}

impl Host {
    /// The host of namespace `netns` that keeps its files in `dir`.
    pub(crate) fn new(netns: String, dir: PathBuf) -> Self {
        Self { netns, dir }
    }

    /// Name of the network namespace, as `ip netns` shows it.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// Directory of the host's own files: logs, keys, WireGuard's sockets.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that holds the namespace.
    pub fn netns_path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.netns)
    }

    /// This host's `/run/wireguard`.
    pub(super) fn wireguard_dir(&self) -> PathBuf {
        self.dir.join("wireguard")
    }

    /// Makes the namespace and the directories: that of userspace WireGuard need not be there where the
    /// kernel has its own.
    pub(crate) fn create(&self) -> Result<()> {
        make_dir(Path::new(WIREGUARD_DIR))?;
        make_dir(&self.wireguard_dir())?;
        run(Command::new("ip").args(["netns", "add", &self.netns]))
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let netns = c_path(&self.netns_path());
        let own = c_path(&self.wireguard_dir());
        let shared = c_path(Path::new(WIREGUARD_DIR));
        let mut command = Command::new(program);
        let enter = move || -> std::io::Result<()> {
            let file = open(
                netns.as_c_str(),
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            setns(file, CloneFlags::CLONE_NEWNET)?;
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
            mount(
                Some(own.as_c_str()),
                shared.as_c_str(),
                none,
                MsFlags::MS_BIND,
                none,
            )?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls only; its
        // paths are C strings already, and nix neither allocates nor locks for them.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `work` on a thread inside the network namespace. Sockets that it
    /// makes stay in the namespace wherever they are used later.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into the network namespace, for good.
    pub fn enter(&self) -> Result<()> {
        let path = self.netns_path();
        let file = File::open(&path).with_context(|| format!("namespace {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("namespace {}: cannot be entered", self.netns))
    }

    /// Whether `address` answers this host within a second: a TCP connection to
    /// a closed port is refused by the far end's kernel.
    pub fn reaches(&self, address: IpAddr) -> Result<bool> {
        self.within(|| {
            let discard = SocketAddr::new(address, 9);
            match TcpStream::connect_timeout(&discard, Duration::from_secs(1)) {
                Ok(_) => Ok(true),
                Err(error) => Ok(error.kind() == ErrorKind::ConnectionRefused),
            }
        })
    }

    /// Runs a command on this host and gives its standard output.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        command.args(args);
        output(&mut command)
    }

    /// Runs a command on this host with `input` as its standard input.
    pub fn feed(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let mut command = self.command(program);
        command.args(args);
        feed(&mut command, input)
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.netns]).args(args))
    }

    /// Runs many lines of `ip` in the namespace at once.
    pub(super) fn ip_batch(&self, lines: &[String]) -> Result<()> {
        batch(
            Command::new("ip").args(["-n", &self.netns, "-batch", "-"]),
            lines,
        )
    }

    /// Runs many lines of `tc` in the namespace at once.
    pub(super) fn tc_batch(&self, lines: &[String]) -> Result<()> {
        batch(
            Command::new("tc").args(["-n", &self.netns, "-batch", "-"]),
            lines,
        )
    }

    /// Reads a file below `/proc/sys/net` of the namespace.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        self.within(|| {
            let value = std::fs::read_to_string(Path::new("/proc/sys/net").join(key))
                .with_context(|| format!("{}: sysctl net/{key}", self.netns))?;
            Ok(value.trim().to_owned())
        })
    }

    /// MAC address of a device.
    pub fn mac(&self, device: &str) -> Result<[u8; 6]> {
        self.within(|| {
            nix::ifaddrs::getifaddrs()?
                .filter(|entry| entry.interface_name == device)
                .find_map(|entry| entry.address?.as_link_addr()?.addr())
                .with_context(|| format!("{device}: no MAC address"))
        })
    }

    /// Writes files below `/proc/sys/net` of the namespace.
    pub fn sysctls(&self, values: &[(&str, &str)]) -> Result<()> {
        self.within(|| {
            for (key, value) in values {
                std::fs::write(Path::new("/proc/sys/net").join(key), value)
                    .with_context(|| format!("{}: sysctl net/{key} = {value}", self.netns))?;
            }
            Ok(())
        })
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("the lab's paths have no zero byte")
}

/// Runs a command; its error holds what the command wrote to standard error.
pub(super) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a command and gives its standard output.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{shown}: cannot be started"))?;
    finished(&shown, &output)
}

/// Runs a command with `input` as its standard input.
pub(super) fn feed(command: &mut Command, input: &str) -> Result<String> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{shown}: cannot be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends early says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("{shown}: lost"))?;
    finished(&shown, &output)
}

fn batch(command: &mut Command, lines: &[String]) -> Result<()> {
    let mut text = lines.join("\n");
    text.push('\n');
    feed(command, &text)
        .map(drop)
        .with_context(|| format!("in the batch\n{text}"))
}

fn finished(shown: &str, output: &std::process::Output) -> Result<String> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}: {}", output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
