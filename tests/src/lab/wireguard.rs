//! Real WireGuard tunnels: in the kernel where it can, else `wireguard-go` on TUN.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::host::{Host, feed, output, run};
use super::topology::{self, Side};
use super::{process, wait};

/// Who does the cryptography.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// The kernel's own device type `wireguard`.
    Kernel,
    /// `wireguard-go` on a TUN device.
    Userspace,
}

impl std::fmt::Display for Implementation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "in-kernel WireGuard",
            Self::Userspace => "wireguard-go",
        })
    }
}

impl Implementation {
    /// What this machine has, found by trying in the namespace of `host`.
    pub(super) fn detect(host: &Host) -> Result<Self> {
        if host
            .ip(&["link", "add", "probe", "type", "wireguard"])
            .is_ok()
        {
            host.ip(&["link", "del", "probe"])?;
            return Ok(Self::Kernel);
        }
        if Command::new("wireguard-go")
            .arg("--version")
            .output()
            .is_err()
        {
            bail!("the kernel has no WireGuard, and program wireguard-go: not found");
        }
        Ok(Self::Userspace)
    }
}

/// Whether the kernel makes WireGuard devices. It is tried in a namespace that vanishes with the command.
pub fn kernel_has_wireguard() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--net", "ip", "link", "add", "wg0", "type", "wireguard"]);
    command.output().is_ok_and(|output| output.status.success())
}

/// The programs without which `wg-quick` makes no tunnel here.
pub fn tunnel_programs() -> &'static [&'static str] {
    const ALL: [&str; 3] = ["wg", "wg-quick", "wireguard-go"];
    if kernel_has_wireguard() {
        &ALL[..2]
    } else {
        &ALL
    }
}

/// The two ends' keys of one tunnel.
struct KeyPair {
    private: String,
    public: String,
}

impl KeyPair {
    fn generate() -> Result<Self> {
        let private = output(Command::new("wg").arg("genkey"))?;
        let public = feed(Command::new("wg").arg("pubkey"), &private)?;
        Ok(Self {
            private: private.trim().into(),
            public: public.trim().into(),
        })
    }
}

/// Makes device `k` on `host`; with userspace WireGuard, gives the process.
/// The device is there when [`ready`] says so.
pub(super) fn create(host: &Host, k: usize, kind: Implementation) -> Result<Option<Child>> {
    let name = topology::tunnel_name(k);
    match kind {
        Implementation::Kernel => {
            host.ip(&["link", "add", &name, "type", "wireguard"])?;
            Ok(None)
        }
        Implementation::Userspace => {
            let log = host.dir().join(format!("{name}.log"));
            let file = File::create(&log).with_context(|| format!("{}", log.display()))?;
            let mut command = host.command("wireguard-go");
            command
                .args(["-f", &name])
                // The shaped underlay is what limits, not a queue of workers.
                .env("LOG_LEVEL", "error")
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file);
            process::daemon(&mut command)
                .spawn()
                .map(Some)
                .with_context(|| format!("tunnel {name}: wireguard-go cannot be started"))
        }
    }
}

/// Waits until device `k` of `host` can be configured.
pub(super) fn ready(host: &Host, k: usize, child: Option<&mut Child>) -> Result<()> {
    let Some(child) = child else { return Ok(()) };
    let name = topology::tunnel_name(k);
    let socket = host.wireguard_dir().join(format!("{name}.sock"));
    wait::until(&format!("tunnel {name}"), Duration::from_secs(10), || {
        if let Some(status) = child.try_wait()? {
            let log = fs::read_to_string(host.dir().join(format!("{name}.log")));
            bail!(
                "wireguard-go ended, {status}: {}",
                log.unwrap_or_default().trim()
            );
        }
        // `wg` takes a socket that nobody listens to yet for a dead one, and removes it.
        Ok(UnixStream::connect(&socket).ok().map(drop))
    })
}

/// Gives tunnel `k` its keys and peers on both gateways.
pub(super) fn configure(a: &Host, b: &Host, k: usize) -> Result<()> {
    let keys = [KeyPair::generate()?, KeyPair::generate()?];
    for (host, side, own, peer) in [
        (a, Side::A, &keys[0], &keys[1]),
        (b, Side::B, &keys[1], &keys[0]),
    ] {
        let far = side.other();
        let port = topology::tunnel_port(k);
        let mut allowed = far.prefixes().to_vec();
        allowed.extend(topology::tunnel_prefixes(k));
        let config = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {port}\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = {}\nEndpoint = {}:{port}\n",
            own.private,
            peer.public,
            allowed.join(", "),
            topology::underlay_address(far, k),
        );
        let file = config_file(host, k);
        fs::write(&file, &config).with_context(|| format!("{}", file.display()))?;
        configure_again(host, k)?;
    }
    Ok(())
}

/// Gives device `k` of `host` the keys and peers that it was given by [`configure`].
pub(super) fn configure_again(host: &Host, k: usize) -> Result<()> {
    let (name, file) = (topology::tunnel_name(k), config_file(host, k));
    let mut command = host.command("wg");
    run(command.args(["setconf", &name]).arg(file))
        .with_context(|| format!("tunnel {name} on {}", host.netns()))
}

fn config_file(host: &Host, k: usize) -> PathBuf {
    host.dir()
        .join(format!("{}.conf", topology::tunnel_name(k)))
}
