//! The directory of pins: finding, making, locking and removing it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::{
    maps::MapInfo,
    programs::links::{FdLink, PinnedLink},
};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::{Signal, kill},
        statfs::{BPF_FS_MAGIC, statfs},
    },
    unistd::Pid,
};
use steer_common::abi::{HookKind, maps};

use super::{error::DatapathError, moving::MOVING};

/// What the name of a link has behind it that takes another one's place.
const NEXT: &str = "_next";

/// Source name of a bpffs that steer mounted itself, and therefore unmounts.
const MOUNT_SOURCE: &str = "steer";
/// Where a bpffs is mounted by custom.
const CUSTOMARY_MOUNT: &str = "/sys/fs/bpf";

/// A directory on a bpffs that holds the maps and links of one steer.
#[derive(Clone, Debug)]
pub struct PinDir {
    path: PathBuf,
}

/// Serialises everything that changes a [`PinDir`]; released when dropped or when the process dies.
#[derive(Debug)]
pub struct WriteLock(#[expect(dead_code, reason = "holds the lock")] Flock<File>);

/// Held by the one daemon of a [`PinDir`] for as long as it lives.
#[derive(Debug)]
pub struct DaemonRole(#[expect(dead_code, reason = "holds the lock")] Flock<File>);

/// How long a daemon may take to step back.
pub const HAND_OVER: Duration = Duration::from_secs(10);
/// How long a daemon waits for the write lock before it does something else.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How long somebody waits for it before that is worth a word.
const LOCK_SILENCE: Duration = Duration::from_secs(1);
/// How often somebody looks whether the write lock is free who does not just wait for it.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// What [`PinDir::prepare`] made; removed again when dropped without [`Prepared::keep`].
#[derive(Debug)]
pub struct Prepared {
    mounted: Option<PathBuf>,
    made: Vec<PathBuf>,
    pins: Option<PinDir>,
}

impl PinDir {
    /// The directory at `path`, whether or not it exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The pin of a hook's link. By number, because bpffs allows no dot in a name and devices do.
    pub fn link(&self, kind: HookKind, ifindex: u32) -> PathBuf {
        self.path.join(format!("{}_{ifindex}", kind.name()))
    }

    /// Where a link is pinned until it takes the place of the one before.
    pub(super) fn next_link(&self, kind: HookKind, ifindex: u32) -> PathBuf {
        let mut pin = self.link(kind, ifindex).into_os_string();
        pin.push(NEXT);
        pin.into()
    }

    /// Whether any map or link of steer is pinned here.
    pub fn is_used(&self) -> bool {
        !self.pins().is_empty()
    }

    /// Whether all maps are pinned here.
    pub fn holds_maps(&self) -> bool {
        maps::ALL.into_iter().all(|name| self.map(name).exists())
    }

    /// Whether a start that was killed before it pinned anything, or a detach after it removed the last pin, left
    /// something here.
    pub fn has_remains(&self) -> bool {
        self.is_used()
            || (self.path.is_dir() && (is_on_bpffs(&self.path) || !has_entries(&self.path)))
            || (self.path.starts_with(CUSTOMARY_MOUNT) && is_own_mount(Path::new(CUSTOMARY_MOUNT)))
    }

    /// The pins of links.
    pub fn links(&self) -> Vec<PathBuf> {
        let mut pins = self.pins();
        pins.retain(|path| maps::ALL.iter().all(|name| !path.ends_with(name)));
        pins
    }

    /// Whether it is, or would be, on a bpffs that is there; else [`PinDir::prepare`] mounts one, or
    /// says what this says.
    pub fn has_bpffs(&self) -> Result<bool, DatapathError> {
        let existing = self.path.ancestors().find(|dir| dir.exists());
        if let Some(file) = existing.filter(|path| !path.is_dir()) {
            return Err(DatapathError::Io {
                path: file.to_owned(),
                source: io::ErrorKind::NotADirectory.into(),
            });
        }
        let is_on = is_on_bpffs(&self.path);
        let is_hidden = !self.path.starts_with(CUSTOMARY_MOUNT) && has_entries(&self.path);
        if !is_on && is_hidden {
            return Err(DatapathError::NotEmpty {
                dir: self.path.clone(),
            });
        }
        Ok(is_on)
    }

    /// Why it cannot be looked into, if it is there and cannot.
    pub fn unreadable(&self) -> Option<DatapathError> {
        match fs::read_dir(&self.path) {
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(DatapathError::Io {
                    path: self.path.clone(),
                    source,
                })
            }
            _ => None,
        }
    }

    /// The pid of the daemon, if there is one.
    pub fn daemon(&self) -> Option<i32> {
        lock_holder(&File::open(&self.path).ok()?).ok()?
    }

    /// Makes the directory and, where there is none, the bpffs under it.
    pub fn prepare(&self) -> Result<Prepared, DatapathError> {
        let mut prepared = Prepared {
            mounted: None,
            made: Vec::new(),
            pins: None,
        };
        if !is_on_bpffs(&self.path) {
            let target = if self.path.starts_with(CUSTOMARY_MOUNT) {
                PathBuf::from(CUSTOMARY_MOUNT)
            } else {
                make_dir(&self.path, &mut prepared.made).map_err(|error| match error {
                    DatapathError::Io { path, source } => {
                        DatapathError::NoBpffs { dir: path, source }
                    }
                    other => other,
                })?;
                self.path.clone()
            };
            if has_entries(&target) && target != Path::new(CUSTOMARY_MOUNT) {
                return Err(DatapathError::NotEmpty { dir: target });
            }
            mount(
                Some(MOUNT_SOURCE),
                &target,
                Some("bpf"),
                MsFlags::empty(),
                // Who may open a directory may hold a lock on it.
                Some("mode=0700"),
            )
            .map_err(|errno| DatapathError::NoBpffs {
                dir: target.clone(),
                source: errno.into(),
            })?;
            prepared.mounted = Some(target);
        }
        make_dir(&self.path, &mut prepared.made)?;
        if !self.is_used() {
            prepared.pins = Some(self.clone());
        }
        Ok(prepared)
    }

    /// Waits until no other steerctl changes this directory, and keeps others from it.
    ///
    /// The lock is on the directory above, which outlives this one.
    pub fn lock(&self) -> Result<WriteLock, DatapathError> {
        match self.lock_within(LOCK_SILENCE) {
            Err(DatapathError::Locked { holder, .. }) => {
                log::info!("waiting for {holder}, which holds the write lock");
            }
            result => return result,
        }
        let (file, failed) = self.lock_file()?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map(WriteLock)
            .map_err(|(_, errno)| failed(errno))
    }

    /// The same for those who have more to do than to wait.
    pub fn lock_within(&self, limit: Duration) -> Result<WriteLock, DatapathError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() > deadline {
                let (file, _) = self.lock_file()?;
                return Err(DatapathError::Locked {
                    dir: self.path.clone(),
                    holder: who(lock_holder(&file).ok().flatten()),
                });
            }
            std::thread::sleep(LOCK_LOOK);
        }
    }

    /// The same without waiting: `None` while another steerctl changes this directory.
    pub fn try_lock(&self) -> Result<Option<WriteLock>, DatapathError> {
        let (file, failed) = self.lock_file()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(WriteLock(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(failed(errno)),
        }
    }

    /// What the write lock is on, and how it fails.
    fn lock_file(&self) -> Result<(File, impl Fn(Errno) -> DatapathError), DatapathError> {
        let above = self.path.ancestors().skip(1).find(|dir| dir.is_dir());
        let dir = above.unwrap_or(Path::new("/"));
        let failed = |source| DatapathError::Io {
            path: dir.to_owned(),
            source,
        };
        let file = File::open(dir).map_err(failed)?;
        Ok((file, move |errno: Errno| failed(errno.into())))
    }

    /// Becomes the daemon; one that is there is asked to step back, which leaves everything
    /// attached.
    pub fn become_daemon(&self) -> Result<DaemonRole, DatapathError> {
        let failed = |source| DatapathError::Io {
            path: self.path.clone(),
            source,
        };
        let mut file = File::open(&self.path).map_err(failed)?;
        let deadline = Instant::now() + HAND_OVER;
        let mut asked = None;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(DaemonRole(lock)),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(failed(errno.into())),
            }
            let holder = lock_holder(&file).map_err(failed)?;
            if Instant::now() > deadline {
                return Err(DatapathError::DaemonStays {
                    dir: self.path.clone(),
                    pid: holder,
                });
            }
            if let Some(pid) = holder.filter(|_| holder != asked) {
                log::info!("asking the daemon with pid {pid} to step back");
                // One that ended by itself just now is as good.
                let _: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGUSR1);
                asked = holder;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the daemon, if there is one, to stop without touching anything.
    pub fn dismiss_daemon(&self) -> Result<(), DatapathError> {
        self.become_daemon().map(drop)
    }

    /// Removes every pin of steer and, if it is empty then, the directory. Errors are collected, so
    /// that one does not keep the rest.
    pub fn remove(&self) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        let mut attempt = |path: &Path, result: io::Result<()>| match result {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                errors.push(DatapathError::Io {
                    path: path.to_owned(),
                    source,
                });
            }
            _ => {}
        };
        for path in self.pins() {
            attempt(&path, fs::remove_file(&path));
        }
        let moving = self.path.join(MOVING);
        attempt(&moving, fs::remove_dir(&moving));
        if is_own_mount(&self.path) && !has_entries(&self.path) {
            attempt(&self.path, unmount(&self.path));
        }
        match fs::remove_dir(&self.path) {
            // Somebody else's files, or somebody else's mount: theirs to keep.
            Err(error) if error.raw_os_error().is_some_and(is_in_use) => {}
            result => attempt(&self.path, result),
        }
        let customary = Path::new(CUSTOMARY_MOUNT);
        if is_own_mount(customary) && !has_entries(customary) {
            attempt(customary, unmount(customary));
        }
        errors
    }

    /// The kernel's ids of the maps that are pinned here.
    pub(super) fn map_ids(&self) -> Vec<u32> {
        // Links have ids of their own.
        let maps = maps::ALL.iter().map(|name| self.map(name));
        maps.filter(|path| is_ours(path))
            .filter_map(|path| Some(MapInfo::from_pin(path).ok()?.id()))
            .collect()
    }

    /// Everything here that is ours.
    fn pins(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_ours(path))
            .collect()
    }
}

/// Whether a pin is a map that has the name of its pin, or the link of a hook. Other software may
/// use such names too.
fn is_ours(pin: &Path) -> bool {
    let Some(name) = pin.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    if maps::ALL.contains(&name) {
        return MapInfo::from_pin(pin).is_ok_and(|info| info.name_as_str() == Some(name));
    }
    let number = HookKind::ALL
        .iter()
        .find_map(|kind| name.strip_prefix(kind.name())?.strip_prefix('_'));
    let number = number.map(|number| number.strip_suffix(NEXT).unwrap_or(number));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
        && PinnedLink::from_pin(pin).is_ok_and(|link| FdLink::from(link).info().is_ok())
}

impl Prepared {
    /// What was made stays.
    pub fn keep(mut self) {
        self.mounted = None;
        self.made.clear();
        self.pins = None;
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for pin in self.pins.iter().flat_map(PinDir::pins) {
            report(&pin, fs::remove_file(&pin));
        }
        // In reverse: the directories on the mount, the mount, the directories below it.
        let is_on_mount = |dir: &PathBuf| {
            self.mounted
                .as_ref()
                .is_some_and(|mounted| dir != mounted && dir.starts_with(mounted))
        };
        let (on_mount, below): (Vec<_>, Vec<_>) =
            self.made.iter().rev().partition(|d| is_on_mount(d));
        for dir in on_mount {
            report(dir, fs::remove_dir(dir));
        }
        if let Some(mounted) = &self.mounted {
            report(mounted, unmount(mounted));
        }
        for dir in below {
            report(dir, fs::remove_dir(dir));
        }
    }
}

/// Whether anything is in the root of a bpffs besides the kernel's own `maps.debug` and
/// `progs.debug` (`kernel/bpf/preload`).
fn has_entries(dir: &Path) -> bool {
    let is_of_kernel = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name == "maps.debug" || name == "progs.debug"
    };
    fs::read_dir(dir).is_ok_and(|entries| entries.flatten().any(|entry| !is_of_kernel(&entry)))
}

/// Removes a mount of ours, even while a reader, or the daemon's lock, still has the directory open.
fn unmount(dir: &Path) -> io::Result<()> {
    umount2(dir, MntFlags::MNT_DETACH).map_err(io::Error::from)
}

fn report(path: &Path, result: io::Result<()>) {
    // Removing everything came first.
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cleaning up {}: {error}", path.display());
    }
}

fn make_dir(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), DatapathError> {
    let missing: Vec<_> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        fs::create_dir(dir).map_err(|source| DatapathError::Io {
            path: dir.to_owned(),
            source,
        })?;
        made.push(dir.to_owned());
    }
    Ok(())
}

/// Whether a path is, or would be, on a bpffs.
fn is_on_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|dir| dir.exists());
    existing
        .is_some_and(|dir| statfs(dir).is_ok_and(|answer| answer.filesystem_type() == BPF_FS_MAGIC))
}

/// Whether a mount that steer made is rooted at this directory.
fn is_own_mount(dir: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let is_mount = dir.parent().and_then(device) != device(dir);
    is_mount
        && fs::read_to_string("/proc/self/mountinfo").is_ok_and(|text| {
            text.lines().any(|line| {
                // … mount point (5th) … - type source options (proc_pid_mountinfo(5))
                let mount_point = line.split(' ').nth(4);
                let kind_and_source = line.split(" - ").nth(1).unwrap_or("");
                mount_point == dir.to_str()
                    && kind_and_source.starts_with(&format!("bpf {MOUNT_SOURCE} "))
            })
        })
}

/// A process as an operator knows it: `pid 1234 (steerctl)`.
fn who(pid: Option<i32>) -> String {
    let Some(pid) = pid else {
        return "a process that cannot be seen from here".into();
    };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("pid {pid} ({})", name.trim_end()),
        Err(_) => format!("pid {pid}"),
    }
}

/// Who holds the `flock` on an open file, by `proc_locks(5)`.
pub(super) fn lock_holder(file: &File) -> io::Result<Option<i32>> {
    let metadata = file.metadata()?;
    let (major, minor) = (
        nix::sys::stat::major(metadata.dev()),
        nix::sys::stat::minor(metadata.dev()),
    );
    let inode = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks")?;
    Ok(locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // 1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF; a waiter has an arrow after the number.
        let is_ours = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&inode.as_str());
        if is_ours {
            fields.get(4)?.parse().ok()
        } else {
            None
        }
    }))
}

fn is_in_use(errno: i32) -> bool {
    matches!(Errno::from_raw(errno), Errno::ENOTEMPTY | Errno::EBUSY)
}
