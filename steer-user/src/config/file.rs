//! Reading the file, and writing it as one step.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Config, ConfigError, edit};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum FileError {
    #[error("{}: cannot be {done}: {source}", path.display())]
    Io {
        path: PathBuf,
        done: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl FileError {
    /// The likely cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::Config(error) => error.hint(),
        }
    }

    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io {
            path,
            done: "read",
            source,
        }
    }

    fn written(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io {
            path,
            done: "written",
            source,
        }
    }
}

/// Reads a configuration file.
pub fn load(path: &Path) -> Result<Config, FileError> {
    let text = fs::read_to_string(path).map_err(FileError::read(path))?;
    Ok(Config::parse(&text).map_err(|error| error.of(path))?)
}

/// A configuration file with new weights, on the disk beside the old one but not in its place yet;
/// gone again when dropped.
#[derive(Debug)]
pub struct NewWeights {
    path: PathBuf,
    file: NamedTempFile,
}

impl NewWeights {
    /// Writes them beside the file: whatever can go wrong goes wrong here.
    pub fn prepare(path: &Path, group: &str, weights: &[(&str, u32)]) -> Result<Self, FileError> {
        // The file that a link leads to is the one to be replaced.
        let path = fs::canonicalize(path).map_err(FileError::read(path))?;
        let text = fs::read_to_string(&path).map_err(FileError::read(&path))?;
        let edited = edit::set_weights(&text, group, weights).map_err(|error| error.of(&path))?;
        let file = write_beside(&path, &edited).map_err(FileError::written(&path))?;
        Ok(Self { path, file })
    }

    /// Puts the new file in the place of the old one.
    pub fn commit(self) -> Result<(), FileError> {
        let Self { path, file } = self;
        let replaced = file
            .persist(&path)
            .map_err(|error| error.error)
            .and_then(|_| File::open(parent(&path))?.sync_all());
        replaced.map_err(FileError::written(&path))
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// An empty file that only its owner may open. Errors are the kernel's own: those of `tempfile` name a file that
/// nobody knows.
fn make_beside(path: &Path) -> io::Result<NamedTempFile> {
    let make = |path: &Path| {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(path)
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".steer-").make_in(parent(path), make)
}

/// A file of the same mode and owner, in the same directory, and on the disk.
fn write_beside(path: &Path, text: &str) -> io::Result<NamedTempFile> {
    let old = fs::metadata(path)?;
    let mut file = make_beside(path)?;
    file.as_file_mut().write_all(text.as_bytes())?;
    let new = file.as_file().metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    file.as_file()
        .set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const TEXT: &str = "[[group]]\n[[group.tunnel]]\nname = \"wg0\" # good\nweight = 1\n";

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).expect("a directory").count()
    }

    #[test]
    fn the_file_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("steer.toml");
        fs::write(&path, TEXT).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        let link = dir.path().join("link.toml");
        symlink(&path, &link).expect("a link");
        let new = NewWeights::prepare(&link, "default", &[("wg0", 7)]).expect("prepared");
        assert_eq!(fs::read_to_string(&path).expect("read"), TEXT);
        new.commit().expect("committed");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text, TEXT.replace("weight = 1", "weight = 7"));
        assert_eq!(load(&link).expect("valid").groups[0].tunnels[0].weight, 7);
        let mode = fs::metadata(&path).expect("metadata").mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("metadata").is_symlink());
        assert_eq!(entries(dir.path()), 2);
    }

    #[test]
    fn errors_name_the_file_that_is_wanted() {
        let dir = tempfile::tempdir().expect("a directory");
        let gone = dir.path().join("gone");
        let error = make_beside(&gone.join("steer.toml")).expect_err("no directory");
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("steer.toml");
        let error = NewWeights::prepare(&path, "default", &[]).expect_err("no file");
        assert!(
            error
                .to_string()
                .starts_with(&format!("{}: cannot be read: ", path.display()))
        );
        fs::write(&path, TEXT).expect("written");
        drop(NewWeights::prepare(&path, "default", &[("wg0", 7)]).expect("prepared"));
        let error = NewWeights::prepare(&path, "default", &[("wg9", 7)]).expect_err("unknown");
        let whole = format!("{}:1: tunnel wg9: is not in the file", path.display());
        assert_eq!(error.to_string(), whole);
        assert_eq!(fs::read_to_string(&path).expect("read"), TEXT);
        assert_eq!(entries(dir.path()), 1);
    }
}
