//! What a run was made on, and of what.

use std::{fs, path::Path, process::Command};

/// Programs whose versions say what was compared, and how they are asked.
const PROGRAMS: [(&str, &str); 3] = [
    ("ip", "-Version"),
    ("nft", "--version"),
    ("iptables", "--version"),
];

/// The commit in the source directory, with `+` behind it if files differ from it; empty without git.
pub(super) fn commit() -> String {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        // The benchmark runs as root, in a directory that is another user's.
        command.args(["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR")]);
        said(command.args(args))
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return String::new();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changed.is_none_or(|files| files.is_empty()) {
        ""
    } else {
        "+"
    };
    format!("{commit}{mark}")
}

/// First lines of what the programs say of themselves, and which WireGuard there is.
pub(super) fn versions() -> Vec<String> {
    let version = |program: &str, option: &str| {
        let text = said(Command::new(program).arg(option))?;
        text.lines().next().map(str::to_owned)
    };
    let programs = PROGRAMS.into_iter();
    let mut all: Vec<_> = programs
        .filter_map(|(program, option)| version(program, option))
        .collect();
    all.extend(if Path::new("/sys/module/wireguard").exists() {
        Some("WireGuard in the kernel".to_owned())
    } else {
        version("wireguard-go", "--version")
    });
    all
}

/// Standard output of a command that succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// The machine by its firmware, or what its CPUs say.
pub(super) fn maker(cpuinfo: &str) -> String {
    let names = ["sys_vendor", "product_name"]
        .into_iter()
        .filter_map(|name| {
            let text = fs::read_to_string(Path::new("/sys/class/dmi/id").join(name)).ok()?;
            Some(text.trim().to_owned())
        });
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        return names.join(" ");
    }
    let kind = if is_virtual(cpuinfo) {
        "a virtual machine"
    } else {
        "hardware"
    };
    kind.to_owned()
}

fn is_virtual(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_machine_says_so() {
        assert!(is_virtual(
            "model name\t: A CPU\nflags\t\t: fpu hypervisor lm\n"
        ));
        assert!(!is_virtual("flags\t\t: fpu lm\n"));
    }
}
