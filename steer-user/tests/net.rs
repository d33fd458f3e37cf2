//! `steer_user::net` against a real kernel, in network namespaces of its own.
//! Needs root; WireGuard cases need `wireguard-go` and `wg`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use steer_user::net::{DeviceEvent, DeviceEvents, IngressQdisc, Netlink, TcFilter, enter_netns};
use steer_user::sys::{Capabilities, Capability};

/// A network namespace that goes when the test ends.
struct Netns(String);

impl Netns {
    /// A new one; `None`, with the reason printed, when this machine does not let us.
    fn new(test: &str) -> Option<Self> {
        let needed = [Capability::NetAdmin, Capability::SysAdmin];
        let missing = Capabilities::effective()
            .expect("/proc/self/status")
            .missing(&needed);
        if !missing.is_empty() {
            println!("SKIP {test}: missing {}", missing[0]);
            return None;
        }
        let name = format!("steer-net-{}-{test}", std::process::id());
        if !run("ip", &["netns", "add", &name]) {
            println!("SKIP {test}: ip netns add does not work");
            return None;
        }
        Some(Self(name))
    }

    /// Runs `ip` inside.
    fn ip(&self, arguments: &str) {
        let ok = self.exec("ip", &arguments.split(' ').collect::<Vec<_>>());
        assert!(ok, "ip {arguments}");
    }

    fn exec(&self, program: &str, arguments: &[&str]) -> bool {
        let mut all = vec!["netns", "exec", &self.0, program];
        all.extend_from_slice(arguments);
        run("ip", &all)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.0]);
    }
}

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

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn devices_and_addresses() {
    let Some(netns) = Netns::new("devices") else {
        return;
    };
    netns.ip("link set lo up");
    netns.ip("link add lan0 type veth peer name far0");
    netns.ip("link set lan0 mtu 1400 up");
    netns.ip("addr add 10.1.0.1/24 dev lan0");
    netns.ip("addr add fd00:1::1/64 dev lan0 nodad");
    netns.ip("tuntap add dev tun0 mode tun");
    netns.ip("addr add 10.9.0.1 peer 10.9.0.2 dev tun0");
    netns.ip("tuntap add dev tap0 mode tap");
    enter_netns(&netns.0).expect("enter");
    let devices =
        block_on(async { Netlink::connect().expect("netlink").devices().await }).expect("devices");

    let lan = devices.by_name("lan0").expect("lan0");
    assert_eq!(
        (lan.mtu_bytes, lan.up, lan.layer3, lan.loopback),
        (1_400, true, false, false)
    );
    assert_eq!(lan.kind.as_deref(), Some("veth"));
    let addresses: Vec<String> = lan.addresses.iter().map(ToString::to_string).collect();
    assert!(addresses.contains(&"10.1.0.1/24".into()), "{addresses:?}");
    assert!(addresses.contains(&"fd00:1::1/64".into()), "{addresses:?}");
    assert_eq!(devices.by_index(lan.ifindex), Some(lan));

    let tun = devices.by_name("tun0").expect("tun0");
    assert_eq!(
        (tun.up, tun.layer3, tun.kind.as_deref()),
        (false, true, Some("tun"))
    );
    assert_eq!(
        tun.addresses[0].addr().to_string(),
        "10.9.0.1",
        "ours, not the peer's"
    );
    assert_eq!(tun.wireguard, None);
    assert!(!devices.by_name("tap0").expect("tap0").layer3);
    assert!(devices.by_name("lo").expect("lo").loopback);
    assert_eq!(devices.by_name("eth7"), None);
}

#[test]
fn events() {
    let Some(netns) = Netns::new("events") else {
        return;
    };
    enter_netns(&netns.0).expect("enter");
    block_on(async {
        let mut events = DeviceEvents::subscribe().expect("subscribe");
        netns.ip("link add lan0 type veth peer name far0");
        netns.ip("link set lan0 up");
        netns.ip("link del lan0");
        let (mut appeared, mut went_up) = (false, false);
        loop {
            let event = tokio::time::timeout(Duration::from_secs(5), events.next())
                .await
                .expect("an event in time");
            match event.expect("an event") {
                DeviceEvent::Changed(device) if device.name == "lan0" => {
                    appeared = true;
                    went_up |= device.up;
                }
                DeviceEvent::Removed { name, ifindex } if name == "lan0" => {
                    assert!(ifindex > 0);
                    break;
                }
                _ => {}
            }
        }
        assert!(appeared && went_up);
    });
}

#[test]
fn clsact() {
    let Some(netns) = Netns::new("clsact") else {
        return;
    };
    netns.ip("link add lan0 type veth peer name far0");
    netns.ip("link add lan1 type veth peer name far1");
    enter_netns(&netns.0).expect("enter");
    if !netns.exec("tc", &["qdisc", "add", "dev", "lan0", "clsact"]) {
        println!("SKIP clsact: tc qdisc add clsact does not work");
        return;
    }
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let devices = netlink.devices().await.expect("devices");
        let lan0 = devices.by_name("lan0").expect("lan0").ifindex;
        let lan1 = devices.by_name("lan1").expect("lan1").ifindex;
        let qdisc = async |ifindex| netlink.ingress_qdisc(ifindex).await.expect("qdisc");
        assert_eq!(qdisc(lan0).await, IngressQdisc::Clsact);
        assert_eq!(qdisc(lan1).await, IngressQdisc::Absent);
        netns.exec("tc", &["qdisc", "add", "dev", "lan1", "ingress"]);
        assert_eq!(qdisc(lan1).await, IngressQdisc::Other("ingress".into()));

        assert!(
            netlink
                .clsact_filters(lan0)
                .await
                .expect("filters")
                .is_empty()
        );
        assert!(
            netlink
                .clsact_filters(lan1)
                .await
                .expect("filters")
                .is_empty()
        );
        // One instruction of classic BPF: return -1.
        let add = "filter add dev lan0 egress protocol all prio 7 handle 5 bpf bytecode";
        let mut filter: Vec<&str> = add.split(' ').collect();
        filter.push("1,6 0 0 4294967295");
        assert!(netns.exec("tc", &filter));
        let filters = netlink.clsact_filters(lan0).await.expect("filters");
        assert_eq!(
            filters,
            [TcFilter {
                ingress: false,
                kind: "bpf".into(),
                priority: 7,
                handle: 5
            }]
        );

        netlink.delete_clsact(lan0).await.expect("delete");
        assert_eq!(qdisc(lan0).await, IngressQdisc::Absent);
        let error = netlink
            .delete_clsact(lan0)
            .await
            .expect_err("nothing there");
        assert!(
            error
                .to_string()
                .starts_with(&format!("clsact of device {lan0}: ")),
            "{error}"
        );
    });
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
        "peer",
        key,
        "endpoint",
        "192.0.2.1:51820",
        "allowed-ips",
    ];
    assert!(netns.exec("wg", &[&set[..], &["10.2.0.0/16,fd00:2::/64"]].concat()));

    enter_netns(&netns.0).expect("enter");
    let devices =
        block_on(async { Netlink::connect().expect("netlink").devices().await }).expect("devices");
    let device = devices.by_name(&name).expect("the device");
    assert!(device.layer3);
    let wireguard = device.wireguard.as_ref().expect("WireGuard answers");
    let allowed: Vec<String> = wireguard.allowed_ips().map(|net| net.to_string()).collect();
    assert_eq!(allowed, ["10.2.0.0/16", "fd00:2::/64"]);
    assert_eq!(wireguard.peers[0].endpoint, "192.0.2.1:51820".parse().ok());
    assert_eq!(wireguard.latest_handshake(), None);
}
