//! Finding a compiler that can build the eBPF program.
//!
//! It needs `-Z build-std=core` and so the source of its own `core`: a nightly
//! of rustup with `rust-src`, or a distribution's compiler with its source
//! package, which takes `-Z` options when `RUSTC_BOOTSTRAP=1` tells it to.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, anyhow};

use crate::{
    packages::{self, Item},
    process::{capture, find_program, is_executable, line, run_within, say},
};

/// The nightly that set-up installs: its LLVM is that of [`MAX_LLVM`] or older.
const NIGHTLY: &str = "nightly-2026-05-19";

/// The workspace's `rust-version`, which cargo enforces for the eBPF part too.
pub(crate) const MIN_RUST: (u32, u32) = (1, 95);

/// The linker's LLVM must be at least as new as the compiler's.
const MAX_LLVM: u32 = 22;

/// Patience with a download that may lead nowhere.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(4);

/// Prefixes under which distributions and administrators install a compiler.
const SYSTEM_PREFIXES: [&str; 2] = ["/usr/local", "/usr"];

/// A compiler for the eBPF program.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) prefix: PathBuf,
    pub(crate) version: CompilerVersion,
}

/// What `rustc -vV` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompilerVersion {
    /// The first line, for people.
    pub(crate) title: String,
    pub(crate) release: (u32, u32),
    pub(crate) nightly: bool,
    pub(crate) llvm: u32,
}

impl CompilerVersion {
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let release = value("release: ")?;
        let mut numbers = release.split('.');
        Some(Self {
            title: text.lines().next()?.to_owned(),
            release: (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?),
            nightly: release.ends_with("-nightly") || release.ends_with("-dev"),
            llvm: value("LLVM version: ")?.split('.').next()?.parse().ok()?,
        })
    }

    /// Why this compiler will not do.
    fn objection(&self) -> Option<String> {
        if self.release < MIN_RUST {
            return Some(format!("older than Rust {}.{}", MIN_RUST.0, MIN_RUST.1));
        }
        if self.llvm > MAX_LLVM {
            return Some(format!(
                "its LLVM {} is newer than LLVM {MAX_LLVM}, which bpf-linker is built with",
                self.llvm
            ));
        }
        None
    }
}

impl Toolchain {
    pub(crate) fn cargo(&self) -> PathBuf {
        self.prefix.join("bin/cargo")
    }

    pub(crate) fn rustc(&self) -> PathBuf {
        self.prefix.join("bin/rustc")
    }

    /// Whether it is a stable compiler that must be told to take `-Z` options.
    pub(crate) fn bootstrap(&self) -> bool {
        !self.version.nightly
    }

    /// The compiler's own linter, where it has one.
    pub(crate) fn clippy(&self) -> Option<PathBuf> {
        let bin = self.prefix.join("bin");
        let clippy = bin.join("cargo-clippy");
        (is_executable(&clippy) && is_executable(&bin.join("clippy-driver"))).then_some(clippy)
    }

    /// Installs the linter. Only `check` wants it, and can do without.
    pub(crate) fn install_clippy(&self) -> Result<()> {
        if !self.prefix.starts_with(rustup_toolchains()) {
            return packages::install(&[Item::Clippy], "to lint the eBPF program", false);
        }
        let name = self.prefix.file_name().unwrap_or_default();
        let mut command = Command::new("rustup");
        command
            .args(["component", "add", "clippy", "--toolchain"])
            .arg(name)
            .env_remove("RUST_BACKTRACE");
        say(
            "setup",
            "installing clippy by rustup (to lint the eBPF program)",
        );
        run_within(&mut command, DOWNLOAD_LIMIT)
    }

    /// Takes the compiler under `prefix`, or says why not.
    fn at(prefix: &Path) -> Result<Self, String> {
        for program in ["bin/rustc", "bin/cargo"] {
            if !is_executable(&prefix.join(program)) {
                return Err(format!("no {program}"));
            }
        }
        let source = "lib/rustlib/src/rust/library/Cargo.lock";
        if !prefix.join(source).is_file() {
            return Err("without its source (rust-src)".into());
        }
        let text = capture(Command::new(prefix.join("bin/rustc")).arg("-vV"))
            .map_err(|e| e.to_string())?;
        let version = CompilerVersion::parse(&text)
            .ok_or_else(|| format!("rustc -vV says something else: {text:?}"))?;
        if let Some(objection) = version.objection() {
            return Err(format!("{}: {objection}", version.title));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            version,
        })
    }

    /// The first compiler that will do, or everything that was looked at and
    /// why it will not.
    pub(crate) fn find() -> Result<Self, Vec<String>> {
        let mut objections = Vec::new();
        for prefix in candidates() {
            match Self::at(&prefix) {
                Ok(toolchain) => return Ok(toolchain),
                Err(objection) => objections.push(format!("{}: {objection}", prefix.display())),
            }
        }
        Err(objections)
    }

    /// Installs one: by rustup, else by the package manager.
    pub(crate) fn install(objections: &[String], dry_run: bool) -> Result<Option<Self>> {
        for objection in objections {
            say("setup", &format!("no eBPF compiler in {objection}"));
        }
        let mut by_rustup = Command::new("rustup");
        by_rustup
            .args(["toolchain", "install", NIGHTLY, "--profile", "minimal"])
            .args(["--component", "rust-src", "--component", "clippy"]);

        if find_program("rustup").is_some() {
            by_rustup.env_remove("RUST_BACKTRACE");
            if dry_run {
                say(
                    "setup",
                    &format!("would run {} (eBPF compiler)", line(&by_rustup)),
                );
                say("setup", "if that fails:");
            } else {
                say(
                    "setup",
                    &format!("installing {NIGHTLY} with its source by rustup (eBPF compiler)"),
                );
                match run_within(&mut by_rustup, DOWNLOAD_LIMIT) {
                    Ok(()) => {}
                    Err(e) => say("setup", &format!("{e}; trying the distribution's compiler")),
                }
                if let Ok(toolchain) = Self::find() {
                    return Ok(Some(toolchain));
                }
            }
        }
        packages::install(&[Item::Compiler], "eBPF compiler", dry_run)
            .map_err(|e| anyhow!("{e:#}\nor by rustup:\n    {}", line(&by_rustup)))?;
        if dry_run {
            return Ok(None);
        }
        Self::find().map(Some).map_err(|objections| {
            anyhow!(
                "still no compiler for the eBPF program:\n  {}\nby hand:\n    {}",
                objections.join("\n  "),
                line(&by_rustup)
            )
        })
    }
}

/// Where to look, in order: the pinned nightly, the other nightlies from the
/// newest to the oldest, the system.
fn candidates() -> Vec<PathBuf> {
    let installed = fs::read_dir(rustup_toolchains())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let mut all = nightlies(installed);
    all.extend(SYSTEM_PREFIXES.iter().map(PathBuf::from));
    all
}

/// Where rustup keeps its compilers.
fn rustup_toolchains() -> PathBuf {
    let home = env::var_os("RUSTUP_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".rustup"),
        PathBuf::from,
    );
    home.join("toolchains")
}

/// The nightlies among rustup's toolchains, in order of preference.
fn nightlies(installed: Vec<PathBuf>) -> Vec<PathBuf> {
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let mut all: Vec<_> = installed
        .into_iter()
        .filter(|path| name(path).starts_with("nightly"))
        .collect();
    all.sort_by_key(|path| {
        let name = name(path);
        (name.starts_with(NIGHTLY), name)
    });
    all.reverse();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
        binary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn the_compilers_version_is_read() {
        let version = CompilerVersion::parse(DEBIAN).unwrap();
        assert_eq!((version.release, version.llvm), ((1, 96), 22));
        assert!(!version.nightly);
        assert_eq!(version.objection(), None);

        let nightly = DEBIAN.replace("1.96.0\n", "1.97.0-nightly\n");
        assert!(CompilerVersion::parse(&nightly).unwrap().nightly);
        assert_eq!(CompilerVersion::parse("rustc 1.96.0\n"), None);
    }

    #[test]
    fn a_compiler_that_is_too_old_or_too_new_is_refused() {
        let too_new = DEBIAN.replace("LLVM version: 22", "LLVM version: 23");
        let objection = CompilerVersion::parse(&too_new).unwrap().objection();
        assert!(objection.unwrap().contains("LLVM 23"));

        let too_old = DEBIAN.replace("1.96.0\n", "1.85.0\n");
        let objection = CompilerVersion::parse(&too_old).unwrap().objection();
        assert!(objection.unwrap().contains("older than Rust 1.95"));
    }

    #[test]
    fn the_pinned_nightly_is_preferred_and_then_the_newest() {
        let host = "x86_64-unknown-linux-gnu";
        let installed = [
            "nightly-2025-01-01",
            "stable",
            NIGHTLY,
            "nightly-2026-09-09",
        ]
        .map(|name| PathBuf::from(format!("/r/{name}-{host}")));
        let expected = [NIGHTLY, "nightly-2026-09-09", "nightly-2025-01-01"]
            .map(|name| PathBuf::from(format!("/r/{name}-{host}")));
        assert_eq!(nightlies(installed.into()), expected);
    }
}
