//! Archives that the kernel unpacks into its first file system: cpio, format "newc"
//! (linux: Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Nothing is compressed: an emulated processor takes longer to unpack than to read.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const TRAILER: &str = "TRAILER!!!";
/// Archives are padded to this, so that the next may follow.
const BLOCK: usize = 512;

/// An archive being written. A path is in it once; what comes first stays.
pub(crate) struct Archive<W: Write> {
    out: W,
    written_bytes: usize,
    entries: u32,
    paths: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            written_bytes: 0,
            entries: 0,
            paths: BTreeSet::new(),
        }
    }

    /// A directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, &[])
    }

    /// A file with these bytes.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | mode & 0o7777, content)
    }

    /// A symbolic link at `path`.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK | 0o777, target.as_bytes())
    }

    /// A file of this machine, with its mode; links are followed.
    pub(crate) fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let name = || from.display().to_string();
        let content = fs::read(from).with_context(name)?;
        let mode = fs::metadata(from).with_context(name)?.permissions().mode();
        self.file(to, mode, &content).with_context(name)
    }

    /// All files below a directory of this machine.
    pub(crate) fn copy_tree(&mut self, from: &Path, to: &str) -> Result<()> {
        self.directory(to)?;
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let to = format!("{to}/{name}");
            if path.is_dir() {
                self.copy_tree(&path, &to)?;
            } else {
                self.copy(&path, &to)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.header(TRAILER, 0, 0)?;
        self.pad(BLOCK)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.paths.insert(path.into()) {
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above)?;
        }
        self.header(path, mode, content.len())?;
        self.write(content)?;
        self.pad(4)
    }

    fn header(&mut self, path: &str, mode: u32, size: usize) -> io::Result<()> {
        let size = u32::try_from(size)
            .map_err(|_| io::Error::other(format!("{path}: larger than 4 GiB")))?;
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let name_bytes = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        let mut header = String::from("070701");
        // Inode, mode, owner, group, links, time, size, device, special device, name, checksum.
        for field in [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_bytes,
            0,
        ] {
            let _ = write!(header, "{field:08x}");
        }
        self.write(header.as_bytes())?;
        self.write(path.as_bytes())?;
        self.write(&[0])?;
        self.pad(4)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written_bytes += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self, to: usize) -> io::Result<()> {
        let missing = self.written_bytes.next_multiple_of(to) - self.written_bytes;
        self.write(&[0; BLOCK][..missing])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(fill: impl FnOnce(&mut Archive<Vec<u8>>)) -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        fill(&mut archive);
        archive.finish().unwrap()
    }

    /// Names, modes and contents, read as the kernel does (init/initramfs.c).
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + 8 * n..][..8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_bytes) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[at + 110..][..name_bytes - 1]).unwrap();
            let content = (at + 110 + name_bytes).next_multiple_of(4);
            if name == TRAILER {
                return entries;
            }
            entries.push((name.into(), mode, bytes[content..content + size].to_vec()));
            at = (content + size).next_multiple_of(4);
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let bytes = archive(|archive| {
            archive.file("/a/b/file", 0o755, b"content").unwrap();
            archive.link("a/link", "b/file").unwrap();
            archive.file("a/b/file", 0o644, b"another").unwrap();
        });
        let expected = [
            ("a", DIRECTORY | 0o755, &b""[..]),
            ("a/b", DIRECTORY | 0o755, b""),
            ("a/b/file", FILE | 0o755, b"content"),
            ("a/link", LINK | 0o777, b"b/file"),
        ]
        .map(|(name, mode, content)| (name.to_owned(), mode, content.to_vec()));
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn archives_can_follow_each_other() {
        let one = archive(|archive| archive.file("x", 0o644, b"12345").unwrap());
        assert_eq!(one.len() % BLOCK, 0);
        let both = [
            one.clone(),
            archive(|archive| archive.directory("y").unwrap()),
        ]
        .concat();
        assert_eq!(read(&both[one.len()..])[0].0, "y");
    }
}
