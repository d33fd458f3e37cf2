//! Userspace WireGuard.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
