//! Userspace WireGuard.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use steer_user::net::Netlink;

use crate::{Netns, block_on, run};

/// A wireguard-go that goes, with its socket, when the test ends.
struct WireGuardGo {
    process: Child,
    name: String,
}

impl Drop for WireGuardGo {
    fn drop(&mut self) {
        // These fail only when it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.name));
    }
}

#[test]
fn userspace_wireguard() {
    let Some(netns) = Netns::new("wg") else {
        return;
    };
    if !run("wg", &["--version"]) || !run("wireguard-go", &["--version"]) {
        println!("SKIP userspace_wireguard: no wg or no wireguard-go");
        return;
    }
    // The socket's directory is shared by all namespaces, so the name is ours alone.
    let name = format!("sw{}", std::process::id());
    let _daemon = WireGuardGo {
        process: Command::new("ip")
            .args(["netns", "exec", &netns.0, "wireguard-go", "-f", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("wireguard-go"),
        name: name.clone(),
    };
    let socket = format!("/var/run/wireguard/{name}.sock");
    let mut ready = false;
    for _ in 0..50 {
        ready = std::fs::exists(&socket).unwrap_or(false);
        if ready {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if !ready {
        println!("SKIP userspace_wireguard: wireguard-go does not start");
        return;
    }
    let key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    let set = [
        "set",
        &name,
        "fwmark",
        "0xca6c",
        "peer",
        key,
        "endpoint",
        "192.0.2.1:51820",
        "allowed-ips",
    ];
    assert!(netns.exec("wg", &[&set[..], &["10.2.0.0/16,fd00:2::/64"]].concat()));

    netns.enter();
    let devices =
        block_on(async { Netlink::connect().expect("netlink").devices().await }).expect("devices");
    let device = devices.by_name(&name).expect("the device");
    assert!(device.layer3);
    let wireguard = device.wireguard.as_ref().expect("WireGuard answers");
    let allowed: Vec<String> = wireguard.allowed_ips().map(|net| net.to_string()).collect();
    assert_eq!(allowed, ["10.2.0.0/16", "fd00:2::/64"]);
    assert_eq!(wireguard.peers[0].endpoint, "192.0.2.1:51820".parse().ok());
    assert_eq!(wireguard.latest_handshake(), None);
    assert_eq!(wireguard.fwmark, Some(0xca6c));
}

#[test]
fn stuck_ones_take_the_time_of_one() {
    const DEVICES: u32 = 6;
    let Some(netns) = Netns::new("stuck") else {
        return;
    };
    let names: Vec<String> = (0..DEVICES)
        .map(|k| format!("st{k}x{}", std::process::id()))
        .collect();
    if !netns.try_ip(&format!("tuntap add {} mode tun", names[0])) {
        println!("SKIP stuck_ones_take_the_time_of_one: no TUN devices");
        return;
    }
    std::fs::create_dir_all("/var/run/wireguard").expect("the directory of sockets");
    let sockets: Vec<_> = names.iter().map(|name| Stuck::new(name)).collect();
    for name in &names[1..] {
        netns.ip(&format!("tuntap add {name} mode tun"));
    }
    netns.enter();
    let began = Instant::now();
    let devices =
        block_on(async { Netlink::connect().expect("netlink").devices().await }).expect("devices");
    let took = began.elapsed();
    for name in &names {
        assert_eq!(devices.by_name(name).expect(name).wireguard, None);
    }
    println!("{DEVICES} devices whose WireGuard does not answer: {took:?}");
    assert!(took >= Duration::from_secs(1), "it was not asked: {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    drop(sockets);
}

/// A socket that is listened to, without an answer.
struct Stuck(
    PathBuf,
    #[expect(dead_code, reason = "listens")] UnixListener,
);

impl Stuck {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/var/run/wireguard/{name}.sock"));
        let listener = UnixListener::bind(&path).expect("a socket");
        Self(path, listener)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // It fails only when somebody else has removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}
