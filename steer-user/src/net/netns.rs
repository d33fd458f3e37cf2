//! Entering a named network namespace.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use super::NetError;

/// Where `ip netns add` puts names; `/var/run` may be a directory of its own on old systems.
const DIRECTORIES: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// Moves this thread into the network namespace `name`, as `ip netns exec`
/// would but with the mounts left as they are, so that a bpffs stays in sight.
///
/// Threads started later inherit it; call it before any is started.
pub fn enter_netns(name: &str) -> Result<(), NetError> {
    let failed = |cause| NetError::Netns {
        name: name.to_owned(),
        cause,
        existing: existing(),
    };
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a name",
        )));
    }
    let file = open(name).map_err(failed)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
}

fn open(name: &str) -> io::Result<File> {
    for directory in DIRECTORIES {
        match File::open(Path::new(directory).join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no such namespace"))
}

fn existing() -> Vec<String> {
    let mut names: Vec<String> = DIRECTORIES
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_impossible_names() {
        let error = enter_netns("steer-no-such").expect_err("no such namespace");
        assert_eq!(
            error.to_string(),
            "network namespace steer-no-such: no such namespace"
        );
        assert!(error.hint().is_some());
        for name in ["", "..", "a/b"] {
            assert!(enter_netns(name).is_err(), "{name:?}");
        }
    }
}
