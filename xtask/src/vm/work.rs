//! `target/vm`: where machines are put together, and who may run them.

use std::{
    fs::{self, File, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

use crate::{process::say, repo};

/// `target/vm`. The consoles of the last run are in it, and what was kept.
pub(crate) fn dir() -> PathBuf {
    repo::root().join("target/vm")
}

/// A directory of this process, which is gone with it.
pub(crate) struct Work(PathBuf);

impl Work {
    /// Makes it, and removes those of processes that were killed.
    pub(crate) fn new() -> Result<Self> {
        let runs = dir().join("runs");
        fs::create_dir_all(&runs).with_context(|| runs.display().to_string())?;
        for entry in fs::read_dir(&runs)?.flatten() {
            if !Path::new("/proc").join(entry.file_name()).exists() {
                remove_dir(&entry.path())?;
            }
        }
        let work = Self(runs.join(process::id().to_string()));
        fs::create_dir_all(&work.0).with_context(|| work.0.display().to_string())?;
        Ok(work)
    }

    /// One of a test's own: tests share a process.
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Result<Self> {
        let work = Self(std::env::temp_dir().join(format!("steer-vm-{}-{name}", process::id())));
        fs::create_dir_all(&work.0)?;
        Ok(work)
    }

    /// A file's place in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = remove_dir(&self.0) {
            say("vm", &format!("left behind: {error:#}"));
        }
    }
}

/// Removes a directory, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| dir.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Takes the lock of `what`, and says for whom it has to wait. It is gone with the process.
pub(crate) fn lock(file: &Path, what: &str) -> Result<File> {
    let shown = || file.display().to_string();
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .with_context(shown)?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        let holder = fs::read_to_string(file).unwrap_or_default();
        let holder = holder.trim();
        say(
            "vm",
            &format!("process {holder} uses {what}: waiting for it"),
        );
        lock.lock().with_context(shown)?;
    }
    lock.set_len(0)?;
    writeln!(lock, "{}", process::id())?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_names_its_holder() {
        let work = Work::named("lock").expect("a directory");
        let file = work.file("lock");
        fs::write(&file, "4000000000\n").expect("an old holder");
        let held = lock(&file, "it").expect("free");
        let text = fs::read_to_string(&file).expect("a holder");
        assert_eq!(text, format!("{}\n", process::id()));
        assert!(File::open(&file).expect("it").try_lock().is_err());
        drop(held);
        assert!(File::open(&file).expect("it").try_lock().is_ok());
    }
}
