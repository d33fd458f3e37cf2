//! Everything that must be on the machine before steer can be built or run.
//!
//! Each step looks first, says what it is about to do, does it, and looks
//! again. Nothing is remembered between runs but the choice of tools in
//! `target/tools/ebpf.env`, which `steer-user/build.rs` reads: looking takes
//! less than a tenth of a second, so there is no stamp that could be wrong.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    linker::Linker,
    packages::{self, Item},
    process::{by_hand, find_program, is_root, say, succeeds},
    repo,
    toolchain::Toolchain,
    vm,
};

/// What the machine is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To compile steer.
    Build,
    /// To compile it, and to run its lab and tests.
    Lab,
    /// Its lab and tests on other kernels, too.
    Vm,
}

/// Installs what is missing, and is silent when nothing is.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    set_up(purpose, false).map(drop)
}

/// The command `setup`: as [`ensure`], and says what there is.
pub(crate) fn command(purpose: Purpose, dry_run: bool) -> Result<()> {
    if let Some((toolchain, linker)) = set_up(purpose, dry_run)? {
        say(
            "setup",
            &format!(
                "eBPF compiler: {}, LLVM {}, in {}",
                toolchain.version.title,
                toolchain.version.llvm,
                toolchain.prefix.display()
            ),
        );
        say(
            "setup",
            &format!("eBPF linker: {} at {}", linker.title, linker.path.display()),
        );
        if purpose != Purpose::Build && missing_lab_items().is_empty() {
            say("setup", "programs for the lab: all there");
        }
        if purpose == Purpose::Vm && missing_for_vm().is_none() {
            say("setup", "programs for other kernels: all there");
        }
    }
    Ok(())
}

/// None: a dry run found something missing.
fn set_up(purpose: Purpose, dry_run: bool) -> Result<Option<(Toolchain, Linker)>> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => Some(toolchain),
        Err(objections) => Toolchain::install(&objections, dry_run)?,
    };
    let linker = match Linker::find() {
        Some(linker) => Some(linker),
        None => Linker::install(dry_run)?,
    };
    if purpose != Purpose::Build {
        packages::install(&missing_lab_items(), "for the lab and the tests", dry_run)?;
    }
    if purpose == Purpose::Vm && has_kernels() {
        // Without them these tests are skipped, and the others are not.
        let result = packages::install(
            &missing_vm_items(),
            "for the tests on other kernels",
            dry_run,
        );
        if let Err(error) = result {
            say("setup", &format!("no tests on other kernels: {error:#}"));
        }
    }
    let Some(tools) = toolchain.zip(linker) else {
        return Ok(None);
    };
    record(&tools.0, &tools.1, dry_run)?;
    Ok(Some(tools))
}

/// Writes down the choice, only when it is another one: cargo builds the eBPF
/// object anew when the file changes. The versions are there for that reason.
fn record(toolchain: &Toolchain, linker: &Linker, dry_run: bool) -> Result<()> {
    let text = format!(
        "# Written by cargo xtask setup, read by steer-user/build.rs.\n\
         # {}; {}\n\
         CARGO={}\nRUSTC={}\nBOOTSTRAP={}\nLINKER={}\n",
        toolchain.version.title,
        linker.title,
        toolchain.cargo().display(),
        toolchain.rustc().display(),
        u8::from(toolchain.bootstrap()),
        linker.path.display(),
    );
    let dir = repo::tools_dir();
    let file = dir.join("ebpf.env");
    if fs::read_to_string(&file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if dry_run {
        say("setup", &format!("would write {}", file.display()));
        return Ok(());
    }
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&file, text))
        .with_context(|| file.display().to_string())
        .map_err(|e| {
            let target = repo::root().join("target");
            by_hand(&e, &format!("sudo chown -R \"$USER\" {}", target.display()))
        })
}

/// What the lab runs that is not on this machine.
fn missing_lab_items() -> Vec<Item> {
    let mut missing: Vec<_> = [
        ("ip", Item::Iproute),
        ("wg", Item::WireguardTools),
        ("bpftool", Item::Bpftool),
        ("nft", Item::Nftables),
        ("iptables-nft", Item::Iptables),
        ("ipset", Item::Ipset),
        ("ping", Item::Ping),
        ("bird", Item::Bird),
    ]
    .into_iter()
    .filter(|(program, _)| find_program(program).is_none())
    .map(|(_, item)| item)
    .collect();
    // Its tests are skipped where there is none.
    if find_program("vtysh").is_none() && packages::offers(Item::Frr) {
        missing.push(Item::Frr);
    }
    if find_program("wireguard-go").is_none() && !kernel_has_wireguard() {
        missing.push(Item::WireguardGo);
    }
    missing
}

/// What boots other kernels.
const VM_PROGRAMS: [(&str, Item); 5] = [
    ("qemu-system-x86_64", Item::Qemu),
    ("busybox", Item::Busybox),
    ("depmod", Item::Kmod),
    ("xz", Item::Xz),
    ("zstd", Item::Zstd),
];
/// What fetches them: Debian's kernels come as packages.
const VM_FETCHERS: [&str; 2] = ["apt-get", "dpkg-deb"];

/// Whether this machine could fetch kernels.
fn has_kernels() -> bool {
    cfg!(target_arch = "x86_64") && VM_FETCHERS.iter().all(|name| find_program(name).is_some())
}

fn missing_vm_items() -> Vec<Item> {
    let programs = VM_PROGRAMS
        .into_iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, item)| item);
    let keyring = (!Path::new(vm::DEBIAN_KEYRING).exists()).then_some(Item::DebianKeyring);
    programs.chain(keyring).collect()
}

/// Something without which no other kernel can be booted, and that is not on this machine.
pub(crate) fn missing_for_vm() -> Option<&'static str> {
    let program = VM_FETCHERS
        .into_iter()
        .chain(VM_PROGRAMS.map(|(program, _)| program))
        .find(|program| find_program(program).is_none());
    let keyring = || {
        let is_missing = !Path::new(vm::DEBIAN_KEYRING).exists();
        is_missing.then_some("Debian's keys (package debian-archive-keyring)")
    };
    program.or_else(keyring)
}

/// Whether the kernel can make a WireGuard device. Root tries, in a network
/// namespace that vanishes with the command; others ask for the module.
fn kernel_has_wireguard() -> bool {
    if Path::new("/sys/module/wireguard").exists() {
        return true;
    }
    let by_module =
        || succeeds(Command::new("modprobe").args(["--dry-run", "--quiet", "wireguard"]));
    if !is_root() || find_program("ip").is_none() {
        return by_module();
    }
    succeeds(Command::new("unshare").args([
        "--net",
        "ip",
        "link",
        "add",
        "wg0",
        "type",
        "wireguard",
    ]))
}
