//! One steerctl at a time moves flows: two plans for the same flows would move more than either.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{
    error::DatapathError,
    pins::{PinDir, lock_holder},
};

/// The directory in a [`PinDir`] that the lock is on. It is there while flows are moved.
pub(super) const MOVING: &str = "moving";

/// Held by the one steerctl that moves flows; the kernel drops it with its process.
#[derive(Debug)]
pub struct MovingRole {
    path: PathBuf,
    #[expect(dead_code, reason = "holds the lock")]
    lock: Flock<File>,
}

impl PinDir {
    /// Becomes the one that moves flows, if there is none.
    pub fn begin_moving(&self) -> Result<MovingRole, DatapathError> {
        let path = self.path().join(MOVING);
        let failed = |source| DatapathError::Io {
            path: path.clone(),
            source,
        };
        loop {
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
            let file = match File::open(&path) {
                // The one before has just gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            let inode = file.metadata().map_err(failed)?.ino();
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // What is locked may have been removed meanwhile.
                Ok(lock) if fs::metadata(&path).is_ok_and(|now| now.ino() == inode) => {
                    return Ok(MovingRole { path, lock });
                }
                Ok(_) => {}
                Err((file, Errno::EWOULDBLOCK)) => {
                    return Err(DatapathError::Moving {
                        dir: self.path().to_owned(),
                        pid: lock_holder(&file).map_err(failed)?,
                    });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    }
}

impl Drop for MovingRole {
    fn drop(&mut self) {
        // Gone already, if steer was detached.
        let _ = fs::remove_dir(&self.path);
    }
}
