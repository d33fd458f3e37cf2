//! `bpf-linker`, which turns the compiler's bitcode into the eBPF object.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    packages::{self, Item},
    process::{self, capture, find_program, line, run, say},
    repo,
};

/// What set-up builds.
const VERSION: &str = "0.13.0";

/// Versions whose command line and output are the same for us.
const ACCEPTED: &str = "0.13.";

/// LLVM that the linker can be built with, the preferred first. The linker's
/// must be at least as new as the compiler's.
const LLVM: [u32; 2] = [22, 23];

/// A `bpf-linker` that will do.
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// What it says of itself.
    pub(crate) title: String,
}

impl Linker {
    fn at(path: PathBuf) -> Option<Self> {
        // Also fails when the LLVM that it is linked with has been removed.
        let title = capture(Command::new(&path).arg("--version")).ok()?;
        let title = title.trim().to_owned();
        if !title.strip_prefix("bpf-linker ")?.starts_with(ACCEPTED) {
            return None;
        }
        let shared = capture(Command::new("ldd").arg(&path)).unwrap_or_default();
        // One that is linked statically does not say; upstream's has LLVM 23.
        if shared_llvm(&shared).is_some_and(|llvm| llvm < LLVM[0]) {
            return None;
        }
        Some(Self { path, title })
    }

    /// Our own in `target/tools`, else one in `PATH`.
    pub(crate) fn find() -> Option<Self> {
        [
            Some(repo::tools_dir().join("bin/bpf-linker")),
            find_program("bpf-linker"),
        ]
        .into_iter()
        .flatten()
        .find_map(Self::at)
    }

    /// Builds ours, with LLVM from the distribution.
    pub(crate) fn install(dry_run: bool) -> Result<Option<Self>> {
        let mut llvm = Llvm::find();
        if llvm.is_none() {
            packages::install(&[Item::Llvm], "to build bpf-linker", dry_run)?;
            llvm = Llvm::find();
        }
        if dry_run {
            let llvm = llvm.unwrap_or_else(Llvm::expected);
            say(
                "setup",
                &format!("would run {} (eBPF linker)", line(&llvm.build_linker())),
            );
            return Ok(None);
        }
        let llvm = llvm.context(
            "LLVM 22 for developers is installed but not found; by hand, with its llvm-config \
             in PATH:\n    cargo xtask setup",
        )?;
        let mut build = llvm.build_linker();
        say(
            "setup",
            &format!(
                "building bpf-linker {VERSION} with LLVM {}, about a minute (eBPF linker)",
                llvm.major
            ),
        );
        let by_hand = line(&build);
        // Else cargo advises to add the directory to PATH, which is not needed.
        let path = env::var_os("PATH").unwrap_or_default();
        let bin = repo::tools_dir().join("bin");
        build.env(
            "PATH",
            env::join_paths(env::split_paths(&path).chain([bin]))?,
        );
        run(&mut build).map_err(|e| process::by_hand(&e, &by_hand))?;
        Self::find().map(Some).with_context(|| {
            format!(
                "the bpf-linker just built in {} does not run; by hand:\n    {by_hand}",
                repo::tools_dir().display(),
            )
        })
    }
}

/// LLVM for developers.
struct Llvm {
    prefix: PathBuf,
    major: u32,
}

impl Llvm {
    /// Where Debian puts it.
    fn expected() -> Self {
        Self {
            prefix: format!("/usr/lib/llvm-{}", LLVM[0]).into(),
            major: LLVM[0],
        }
    }

    fn find() -> Option<Self> {
        let by_major = LLVM.iter().flat_map(|major| {
            [
                // Debian and Ubuntu; Alpine and Arch; Fedora.
                PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-config")),
                PathBuf::from(format!("/usr/lib/llvm{major}/bin/llvm-config")),
                PathBuf::from(format!("/usr/lib64/llvm{major}/bin/llvm-config")),
            ]
        });
        by_major
            .chain(find_program("llvm-config"))
            .find_map(|config| Self::at(&config))
    }

    fn at(config: &Path) -> Option<Self> {
        let ask = |what: &str| capture(Command::new(config).arg(what)).ok();
        let major = ask("--version")?.split('.').next()?.trim().parse().ok()?;
        // The headers are absent where only LLVM's programs are installed.
        let headers = PathBuf::from(ask("--includedir")?.trim()).join("llvm-c/Core.h");
        if !LLVM.contains(&major) || !headers.is_file() {
            return None;
        }
        Some(Self {
            prefix: ask("--prefix")?.trim().into(),
            major,
        })
    }

    fn build_linker(&self) -> Command {
        let mut command = repo::cargo();
        command
            .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
            .args(["--force", "--no-default-features", "--features"])
            .arg(format!("llvm-{}", self.major))
            .arg("--root")
            .arg(repo::tools_dir())
            .env("LLVM_PREFIX", &self.prefix);
        command
    }
}

/// The LLVM in the output of `ldd`: `libLLVM.so.22.1 => …` or `libLLVM-21.so.1`.
fn shared_llvm(ldd: &str) -> Option<u32> {
    let rest = ldd.split("libLLVM").nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .find(|word| !word.is_empty())?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_llvm_is_read_from_both_ways_of_naming_it() {
        let new = "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007f)\n";
        let old = "\tlinux-vdso.so.1\n\tlibLLVM-21.so.1 => /lib/libLLVM-21.so.1\n";
        assert_eq!(shared_llvm(new), Some(22));
        assert_eq!(shared_llvm(old), Some(21));
        assert_eq!(shared_llvm("\tstatically linked\n"), None);
    }
}
