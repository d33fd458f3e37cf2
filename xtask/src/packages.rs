//! The distribution's packages: their names, and how they are installed.

use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};

use crate::{
    process::{by_hand, capture, find_program, is_root, run, say, sudo_is_silent},
    toolchain::MIN_RUST,
};

/// A package manager that set-up can talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Apt,
    Dnf,
    Pacman,
    Apk,
}

/// Something that a package provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// rustc, cargo and the source of `core`, all of one version.
    Compiler,
    /// The linter of that compiler.
    Clippy,
    /// LLVM's libraries for developers, to build `bpf-linker` with.
    Llvm,
    /// `ip` and `tc`.
    Iproute,
    /// `wg`.
    WireguardTools,
    /// WireGuard in userspace, for kernels without it.
    WireguardGo,
    /// `bpftool`.
    Bpftool,
    /// `nft`.
    Nftables,
    /// `iptables-nft`, and `iptables-legacy` where the distribution has both.
    Iptables,
    /// `ipset`, for the benchmark.
    Ipset,
    /// `ping`.
    Ping,
    /// BIRD 2, a routing daemon.
    Bird,
    /// FRR, another one.
    Frr,
    /// `qemu-system-x86_64`.
    Qemu,
    /// `busybox`, preferably without libraries.
    Busybox,
    /// `depmod`.
    Kmod,
    /// `xz`, which kernel modules are packed with.
    Xz,
    /// `zstd`, which others are packed with.
    Zstd,
    /// The keys of Debian's archive, which has the kernels.
    DebianKeyring,
}

impl Manager {
    const ALL: [Self; 4] = [Self::Apt, Self::Dnf, Self::Pacman, Self::Apk];

    /// The package manager of this machine.
    pub(crate) fn detect() -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|manager| find_program(manager.program()).is_some())
    }

    fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Pacman => "pacman",
            Self::Apk => "apk",
        }
    }

    /// The command that installs `packages`, without the part that makes us
    /// root.
    fn install(self, packages: &[&str]) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Apt => &["apt-get", "install", "-y", "--no-install-recommends"],
            Self::Dnf => &["dnf", "install", "-y"],
            Self::Pacman => &["pacman", "-S", "--needed", "--noconfirm"],
            Self::Apk => &["apk", "add"],
        };
        words
            .iter()
            .chain(packages)
            .map(ToString::to_string)
            .collect()
    }

    /// Sets of packages that provide `item`, the best first. None: this
    /// distribution does not package it.
    fn sets(self, item: Item) -> &'static [&'static [&'static str]] {
        match (self, item) {
            // Debian keeps a current compiler for its browsers in "-web".
            (Self::Apt, Item::Compiler) => &[
                &["rustc-web", "cargo-web", "rust-web-src"],
                &["rustc", "cargo", "rust-src"],
            ],
            (_, Item::Compiler) => match self {
                Self::Pacman => &[&["rust", "rust-src"]],
                _ => &[&["rust", "cargo", "rust-src"]],
            },
            (Self::Apt, Item::Clippy) => &[&["rust-web-clippy"], &["rust-clippy"]],
            (Self::Dnf, Item::Clippy) => &[&["clippy"]],
            (Self::Apk, Item::Clippy) => &[&["rust-clippy"]],
            (Self::Apt, Item::Llvm) => &[&["llvm-22-dev"], &["llvm-23-dev"]],
            (Self::Dnf, Item::Llvm) => &[&["llvm22-devel"], &["llvm-devel"]],
            (Self::Pacman, Item::Llvm) => &[&["llvm"]],
            (Self::Apk, Item::Llvm) => &[&["llvm22-dev"]],
            (Self::Dnf, Item::Iproute) => &[&["iproute", "iproute-tc"]],
            (_, Item::Iproute) => &[&["iproute2"]],
            (_, Item::WireguardTools) => &[&["wireguard-tools"]],
            (Self::Apt | Self::Apk, Item::WireguardGo) => &[&["wireguard-go"]],
            // Part of the compiler's package; left to Arch's users; and the kernels of the others
            // have had WireGuard for years.
            (Self::Pacman, Item::Clippy | Item::Frr) | (_, Item::WireguardGo) => &[],
            (Self::Pacman, Item::Bpftool) => &[&["bpf"]],
            (_, Item::Bpftool) => &[&["bpftool"]],
            (_, Item::Nftables) => &[&["nftables"]],
            (Self::Apt | Self::Pacman, Item::Iptables) => &[&["iptables"]],
            (Self::Dnf, Item::Iptables) => &[&["iptables-nft", "iptables-legacy"]],
            (Self::Apk, Item::Iptables) => &[&["iptables", "iptables-legacy"]],
            (_, Item::Ipset) => &[&["ipset"]],
            (Self::Apt, Item::Ping) => &[&["iputils-ping"]],
            (_, Item::Ping) => &[&["iputils"]],
            (Self::Apt, Item::Bird) => &[&["bird2"]],
            (_, Item::Bird) => &[&["bird"]],
            (_, Item::Frr) => &[&["frr"]],
            (Self::Apt, Item::Qemu) => &[&["qemu-system-x86"]],
            (Self::Apt, Item::Busybox) => &[&["busybox-static"]],
            (Self::Apt, Item::Kmod) => &[&["kmod"]],
            (Self::Apt, Item::Xz) => &[&["xz-utils"]],
            (Self::Apt, Item::Zstd) => &[&["zstd"]],
            (Self::Apt, Item::DebianKeyring) => &[&["debian-archive-keyring"]],
            // The kernels come by apt, too.
            (
                _,
                Item::Qemu
                | Item::Busybox
                | Item::Kmod
                | Item::Xz
                | Item::Zstd
                | Item::DebianKeyring,
            ) => &[],
        }
    }

    /// The set to install: the first one whose packages are on offer in a
    /// version that will do. Only apt is asked; the others have one version.
    fn choose(self, item: Item) -> Option<&'static [&'static str]> {
        let sets = self.sets(item);
        if self != Self::Apt {
            return sets.first().copied();
        }
        sets.iter().copied().find(|set| {
            set.iter().all(|package| {
                let offered = capture(Command::new("apt-cache").args(["policy", package]))
                    .ok()
                    .and_then(|text| candidate(&text));
                match (offered, item) {
                    (None, _) => false,
                    (Some(version), Item::Compiler) => {
                        leading_version(&version).is_some_and(|version| version >= MIN_RUST)
                    }
                    (Some(_), _) => true,
                }
            })
        })
    }
}

/// Whether this machine's package manager offers `item`.
pub(crate) fn offers(item: Item) -> bool {
    Manager::detect().is_some_and(|manager| manager.choose(item).is_some())
}

/// The version that `apt-cache policy` would install.
fn candidate(policy: &str) -> Option<String> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
}

/// `1.96.0+dfsg1-1~deb12u2` → (1, 96); an epoch (`1:…`) is skipped.
fn leading_version(text: &str) -> Option<(u32, u32)> {
    let text = text.split_once(':').map_or(text, |(_epoch, rest)| rest);
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|word| word.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Runs a package manager with root's rights. What it says on stdout is thrown
/// away: that stream belongs to our results.
fn run_as_root(words: &[String]) -> Result<()> {
    const QUIET: &str = "DEBIAN_FRONTEND=noninteractive";
    let mut command;
    if is_root() {
        command = Command::new("env");
    } else if sudo_is_silent() {
        command = Command::new("sudo");
        command.args(["-n", "env"]);
    } else {
        bail!("this needs root, and sudo is not there or wants a password");
    }
    run(command
        .arg(QUIET)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null()))
}

/// Installs `items`, or with `dry_run` says what would be installed.
pub(crate) fn install(items: &[Item], why: &str, dry_run: bool) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let Some(manager) = Manager::detect() else {
        bail!(
            "{why}: no apt-get, dnf, pacman or apk on this machine; install by hand what \
             Debian calls {}",
            debian_names(items).join(" ")
        );
    };
    let mut chosen = choose_all(manager, items);
    if chosen.is_err() && manager == Manager::Apt {
        if dry_run {
            say(
                "setup",
                &format!(
                    "would run apt-get update, then install {} ({why})",
                    debian_names(items).join(" ")
                ),
            );
            return Ok(());
        }
        apt_update().map_err(|e| {
            let install = manager.install(&debian_names(items)).join(" ");
            by_hand(&e, &format!("sudo apt-get update && sudo {install}"))
        })?;
        chosen = choose_all(manager, items);
    }
    let packages = chosen.map_err(|item| {
        anyhow!(
            "{why}: {} offers no package for {item:?}; {}",
            manager.program(),
            elsewhere(item)
        )
    })?;

    let words = manager.install(&packages);
    if dry_run {
        say("setup", &format!("would run {} ({why})", words.join(" ")));
        return Ok(());
    }
    say(
        "setup",
        &format!(
            "installing {} by {} ({why})",
            packages.join(" "),
            manager.program()
        ),
    );
    let mut result = run_as_root(&words);
    if result.is_err() && manager == Manager::Apt {
        // The lists may be older than the archive.
        result = apt_update().and_then(|()| run_as_root(&words));
    }
    result.map_err(|e| by_hand(&e, &format!("sudo {}", words.join(" "))))
}

fn choose_all(manager: Manager, items: &[Item]) -> Result<Vec<&'static str>, Item> {
    let mut packages = Vec::new();
    for &item in items {
        packages.extend(manager.choose(item).ok_or(item)?);
    }
    Ok(packages)
}

fn debian_names(items: &[Item]) -> Vec<&'static str> {
    items
        .iter()
        .filter_map(|&item| Manager::Apt.sets(item).first())
        .flat_map(|set| set.iter().copied())
        .collect()
}

fn apt_update() -> Result<()> {
    say(
        "setup",
        "refreshing the package lists by apt-get (not there, or too old)",
    );
    run_as_root(&["apt-get".into(), "update".into()])
}

/// What to do where no package provides `item`.
fn elsewhere(item: Item) -> &'static str {
    match item {
        Item::Compiler => {
            "install rustup (https://rustup.rs), then by hand:\n    \
             rustup toolchain install nightly --profile minimal --component rust-src"
        }
        Item::Llvm => {
            "install LLVM 22 (https://apt.llvm.org), or put a bpf-linker 0.13 into PATH \
             (https://github.com/aya-rs/bpf-linker/releases), then by hand:\n    \
             cargo xtask setup"
        }
        Item::WireguardGo => {
            "this kernel has no WireGuard; by hand:\n    \
             go install golang.zx2c4.com/wireguard@latest, and put it into PATH as wireguard-go"
        }
        Item::Clippy
        | Item::Iproute
        | Item::WireguardTools
        | Item::Bpftool
        | Item::Nftables
        | Item::Iptables
        | Item::Ipset
        | Item::Ping
        | Item::Bird
        | Item::Frr
        | Item::Qemu
        | Item::Busybox
        | Item::Kmod
        | Item::Xz
        | Item::Zstd
        | Item::DebianKeyring => {
            "install it by hand and have it in PATH, then:\n    cargo xtask setup"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_offers_a_version_or_none() {
        let offered = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(
            candidate(offered).as_deref(),
            Some("1.96.0+dfsg1-1~deb12u2")
        );
        let virtual_only = "rustc-web:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(candidate(virtual_only), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn versions_of_packages_are_compared_as_numbers() {
        assert_eq!(leading_version("1.96.0+dfsg1-1~deb12u2"), Some((1, 96)));
        assert_eq!(leading_version("1:22.1.8-1~deb12u1"), Some((22, 1)));
        assert!(leading_version("1.100.0") > Some((1, 95)));
        assert!(leading_version("1.63.0") < Some((1, 95)));
        assert_eq!(leading_version("git"), None);
    }

    #[test]
    fn every_manager_knows_what_it_takes_to_build() {
        for manager in Manager::ALL {
            for item in [Item::Compiler, Item::Llvm, Item::Iproute, Item::Bpftool] {
                assert!(!manager.sets(item).is_empty(), "{manager:?} {item:?}");
            }
            // The source must come with the compiler, or core cannot be built.
            for set in manager.sets(Item::Compiler) {
                assert!(set.iter().any(|name| name.ends_with("src")), "{set:?}");
            }
        }
    }
}
