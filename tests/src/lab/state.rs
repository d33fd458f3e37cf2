//! What a lab leaves on the machine, who owns it, and how it is removed.
//!
//! Everything has a name that follows from the lab's: the directory
//! `/run/steer-lab/NAME`, the namespaces `steer-NAME-…`, the bpffs mounts in
//! the directory. A process belongs to the lab when it is in one of these
//! namespaces, which no reuse of process ids can fake. A file lock says that
//! the lab's owner is alive; the kernel drops it with the owner.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::{make_dir, run};
use super::wait;

/// Parent of all labs' directories.
const ROOT: &str = "/run/steer-lab";

/// The locked file in a directory, with the owner's process id.
const OWNER: &str = "owner";

/// Hosts, in the order of the path that a packet takes.
pub(super) const HOSTS: [&str; 4] = ["client", "a", "b", "server"];

/// Directory of the lab `name`.
pub fn lab_dir(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// Namespace of `host` in the lab `name`.
pub(super) fn netns_name(name: &str, host: &str) -> String {
    format!("steer-{name}-{host}")
}

/// Proof that this process owns a directory; the file is closed, and the lock gone, with it.
#[derive(Debug)]
pub(crate) struct Owner {
    _lock: File,
}

impl Owner {
    /// Takes the directory of `what`, or says which process has it.
    pub(crate) fn take(dir: &Path, what: &str) -> Result<Self> {
        let path = dir.join(OWNER);
        loop {
            make_dir(dir)?;
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| format!("{}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    let _ = file.read_to_string(&mut owner);
                    bail!("{what}: in use by process {}", owner.trim());
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("{}: lock", path.display()));
                }
            }
            // The owner before may have removed the file between open and lock.
            let same = fs::metadata(&path)
                .is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
            if same {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())?;
                return Ok(Self { _lock: file });
            }
        }
    }

    /// Whether the owner of a directory has ended and left it.
    pub(crate) fn has_left(dir: &Path) -> bool {
        let owner = fs::read_to_string(dir.join(OWNER)).unwrap_or_default();
        // One that was just made is empty.
        let process = owner.trim().parse::<u32>();
        process.is_ok_and(|process| !Path::new(&format!("/proc/{process}")).exists())
    }
}

/// Whether anything of the lab `name` is on this machine.
pub(super) fn exists(name: &str) -> bool {
    HOSTS.iter().any(|host| netns_path(name, host).exists())
}

/// Removes everything of the lab `name`: all steps are tried, the errors are collected.
pub(super) fn remove(name: &str) -> Result<()> {
    let mut errors = Vec::new();
    if let Err(error) = end_processes(name) {
        errors.push(format!("{error:#}"));
    }
    let dir = lab_dir(name);
    for host in HOSTS {
        if netns_path(name, host).exists() {
            let netns = netns_name(name, host);
            if let Err(error) = run(Command::new("ip").args(["netns", "del", &netns])) {
                errors.push(format!("{error:#}"));
            }
        }
        let bpffs = dir.join(format!("bpf-{host}"));
        while is_bpffs(&bpffs) {
            if let Err(error) = umount2(&bpffs, MntFlags::MNT_DETACH) {
                errors.push(format!("{}: umount: {error}", bpffs.display()));
                break;
            }
        }
    }
    if errors.is_empty()
        && let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        errors.push(format!("{}: {error}", dir.display()));
    }
    // Other labs may live next to this one.
    let _ = fs::remove_dir(ROOT);
    if errors.is_empty() {
        return Ok(());
    }
    bail!(
        "lab {name}: not all of it could be removed: {}",
        errors.join("; ")
    )
}

/// Whether a bpffs is mounted at `path`.
pub(super) fn is_bpffs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}

fn netns_path(name: &str, host: &str) -> PathBuf {
    Path::new("/run/netns").join(netns_name(name, host))
}

/// Ends the processes in the lab's namespaces: politely, then by force.
fn end_processes(name: &str) -> Result<()> {
    for (signal, limit) in [(Signal::SIGTERM, 1), (Signal::SIGKILL, 5)] {
        let processes = processes(name);
        if processes.is_empty() {
            return Ok(());
        }
        for pid in &processes {
            let _ = kill(*pid, signal);
        }
        // Not `wait::until`: the lab is removed after Ctrl-C, too.
        let end = std::time::Instant::now() + Duration::from_secs(limit);
        while !self::processes(name).is_empty() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let left = processes(name);
    if left.is_empty() {
        Ok(())
    } else {
        bail!("processes {left:?} do not end")
    }
}

/// Processes in the lab's namespaces, without this one. A zombie is in none.
fn processes(name: &str) -> Vec<Pid> {
    let id = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let spaces: Vec<_> = HOSTS
        .iter()
        .filter_map(|host| id(&netns_path(name, host)))
        .collect();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != std::process::id()))
        .filter(|pid| {
            id(Path::new(&format!("/proc/{pid}/ns/net"))).is_some_and(|ns| spaces.contains(&ns))
        })
        .map(Pid::from_raw)
        .collect()
}

/// Names of the labs that have a directory.
pub fn labs() -> Vec<String> {
    let Ok(entries) = fs::read_dir(ROOT) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// What this machine lacks for one test, though it has all that a lab needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Fails with what is missing when a lab cannot be built here.
pub fn check_capabilities() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab needs root (network namespaces, mounts)");
    }
    for program in ["ip", "tc", "wg"] {
        let found = Command::new(program).arg("--version").output().is_ok()
            || Command::new(program).arg("-V").output().is_ok();
        if !found {
            bail!("program {program}: not found");
        }
    }
    wait::check_interrupt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let owner = Owner::take(dir.path(), "it")?;
        let refused = Owner::take(dir.path(), "it").map(drop).unwrap_err();
        let expected = format!("it: in use by process {}", std::process::id());
        assert_eq!(refused.to_string(), expected);
        drop(owner);
        Owner::take(dir.path(), "it").map(drop)
    }

    #[test]
    fn an_owner_that_has_ended_has_left() -> Result<()> {
        let dir = tempfile::tempdir()?;
        assert!(!Owner::has_left(dir.path()), "nobody was there");
        Owner::take(dir.path(), "it")?;
        assert!(!Owner::has_left(dir.path()), "this process lives");
        fs::write(dir.path().join(OWNER), "")?;
        assert!(!Owner::has_left(dir.path()), "it is about to come");
        fs::write(dir.path().join(OWNER), format!("{}\n", u32::MAX))?;
        assert!(Owner::has_left(dir.path()));
        Ok(())
    }
}
