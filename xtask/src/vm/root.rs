//! The first file system of every kernel: busybox, this machine's tools with their libraries, and
//! what is tested.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use crate::{
    process::{capture, find_program, say},
    repo,
};

/// Process 1 in the machine.
const INIT: &str = include_str!("init.sh");
/// Where the tests' binaries are in the machine.
pub(crate) const TESTS: &str = "/steer/tests";
/// Where `steerctl` and the lab's programs are.
pub(crate) const PROGRAMS: &str = "/steer/bin";

/// Without these there is no lab.
const TOOLS: [&str; 10] = [
    "bash", "dash", "ip", "tc", "wg", "bpftool", "nft", "mount", "unshare", "setpriv",
];
/// Without these some tests skip themselves.
const OPTIONAL_TOOLS: [&str; 24] = [
    "wg-quick",
    "nsenter",
    "ping",
    "sysctl",
    "bridge",
    "ipset",
    "tcpdump",
    "bird",
    "birdc",
    "iptables",
    "iptables-nft",
    "iptables-nft-save",
    "iptables-nft-restore",
    "iptables-legacy",
    "iptables-legacy-save",
    "iptables-legacy-restore",
    "ip6tables",
    "ip6tables-nft",
    "ip6tables-nft-save",
    "ip6tables-nft-restore",
    "ip6tables-legacy",
    "ip6tables-legacy-save",
    "ip6tables-legacy-restore",
    "vtysh",
];
/// Files and directories that tools read, where they are.
const DATA: [&str; 12] = [
    "/usr/lib/frr",
    "/usr/share/yang",
    "/etc/iproute2",
    "/usr/share/iproute2",
    "/usr/lib/x86_64-linux-gnu/xtables",
    "/usr/lib64/xtables",
    "/etc/protocols",
    "/etc/services",
    "/etc/passwd",
    "/etc/group",
    "/etc/frr/daemons",
    "/usr/lib/x86_64-linux-gnu/security/pam_permit.so",
];
/// Loaded by name, so that `ldd` does not tell.
const LOADED: [&str; 1] = ["libnss_files.so.2"];

/// Writes what all kernels have: tools and their libraries.
pub(crate) fn base<W: Write>(archive: &mut Archive<W>) -> Result<()> {
    for dir in [
        "proc",
        "sys",
        "dev",
        "tmp",
        "run",
        "root",
        "etc",
        "var/lib",
        "usr/lib64",
    ] {
        archive.directory(dir)?;
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("var/run", "/run"),
    ] {
        archive.link(link, target)?;
    }
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.link("usr/bin/sh", "dash")?;
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
    // vtysh asks PAM, also for root.
    for service in ["frr", "other"] {
        let all = b"auth sufficient pam_permit.so\naccount sufficient pam_permit.so\n";
        archive.file(&format!("etc/pam.d/{service}"), 0o644, all)?;
    }

    let mut binaries = Vec::new();
    for name in TOOLS {
        let tool = find_program(name).with_context(|| {
            format!("program {name}: not found; by hand:\n    cargo xtask setup")
        })?;
        add_tool(archive, name, &tool, &mut binaries)?;
    }
    for name in OPTIONAL_TOOLS {
        match find_program(name) {
            Some(tool) => add_tool(archive, name, &tool, &mut binaries)?,
            None => say(
                "vm",
                &format!("no {name} here: tests that want it skip themselves"),
            ),
        }
    }
    for data in DATA {
        let from = Path::new(data);
        if from.is_dir() {
            archive.copy_tree(from, data)?;
            binaries.extend(fs::read_dir(from)?.flatten().map(|entry| entry.path()));
        } else if from.exists() {
            archive.copy(from, data)?;
        }
    }
    let busybox = find_program("busybox").context("program busybox: not found")?;
    archive.copy(&busybox, "usr/bin/busybox")?;
    binaries.push(busybox.clone());
    // Behind the real tools in PATH; and process 1 has nothing else before it mounts /proc.
    for applet in capture(Command::new(&busybox).arg("--list"))?.lines() {
        archive.link(&format!("busybox/{applet}"), "/usr/bin/busybox")?;
    }
    // The kernel looks for it there.
    archive.link("usr/sbin/modprobe", "/usr/bin/busybox")?;
    libraries(archive, &binaries)
}

/// Writes what is tested: binaries with their libraries, and the files of the repository that they read.
pub(crate) fn payload<W: Write>(
    archive: &mut Archive<W>,
    programs: &[PathBuf],
    tests: &[(String, PathBuf)],
) -> Result<()> {
    let mut binaries = Vec::new();
    for program in programs {
        let name = program.file_name().unwrap_or_default().display();
        archive.copy(program, &format!("{PROGRAMS}/{name}"))?;
        binaries.push(program.clone());
    }
    for (name, test) in tests {
        archive.copy(test, &format!("{TESTS}/{name}"))?;
        binaries.push(test.clone());
    }
    // Where the tests were compiled to look for them.
    let root = repo::root();
    for below in ["tests/packets", "tests/dumps", "tests/corpus"] {
        let from = root.join(below);
        archive.copy_tree(&from, &from.display().to_string())?;
    }
    for below in ["README.md", "docs/packets.md"] {
        let from = root.join(below);
        archive.copy(&from, &from.display().to_string())?;
    }
    libraries(archive, &binaries)
}

/// A tool under the name by which it is called: some decide by it what they do.
fn add_tool<W: Write>(
    archive: &mut Archive<W>,
    name: &str,
    tool: &Path,
    binaries: &mut Vec<PathBuf>,
) -> Result<()> {
    let dir = if tool.parent().is_some_and(|dir| dir.ends_with("sbin")) {
        "usr/sbin"
    } else {
        "usr/bin"
    };
    let real = fs::canonicalize(tool).with_context(|| tool.display().to_string())?;
    let place = format!("{dir}/{name}");
    let real_name = real.file_name().unwrap_or_default();
    if real_name == name {
        archive.copy(&real, &place)?;
    } else {
        let kept = format!("usr/sbin/{}", real_name.display());
        archive.copy(&real, &kept)?;
        archive.link(&place, &format!("/{kept}"))?;
    }
    binaries.push(real);
    Ok(())
}

/// The libraries that these binaries name, at the places where they look for them.
fn libraries<W: Write>(archive: &mut Archive<W>, binaries: &[PathBuf]) -> Result<()> {
    // It fails for scripts and for static binaries, which need none.
    let output = Command::new("ldd").args(binaries).output().context("ldd")?;
    let mut files = ldd_files(&String::from_utf8_lossy(&output.stdout));
    let dirs: BTreeSet<_> = files
        .iter()
        .filter_map(|file| file.parent())
        .map(Path::to_owned)
        .collect();
    for dir in dirs {
        files.extend(
            LOADED
                .iter()
                .map(|name| dir.join(name))
                .filter(|file| file.exists()),
        );
    }
    for file in files {
        archive.copy(&file, &merged(&file))?;
    }
    Ok(())
}

/// The files in what `ldd` says: `NAME => FILE (ADDRESS)`, and `FILE (ADDRESS)` for the loader.
fn ldd_files(text: &str) -> BTreeSet<PathBuf> {
    text.lines()
        .filter(|line| line.starts_with('\t'))
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// Where a file is when `/lib` and its like are links into `/usr`.
fn merged(file: &Path) -> String {
    let text = file.display().to_string();
    if text.starts_with("/lib") {
        format!("/usr{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let text = "/usr/bin/ip:\n\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n/usr/bin/busybox:\n\tnot a dynamic executable\n";
        let files: Vec<_> = ldd_files(text).iter().map(|file| merged(file)).collect();
        assert_eq!(
            files,
            [
                "/usr/lib/x86_64-linux-gnu/libc.so.6",
                "/usr/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }
}
