//! `steer_user::net` against a real kernel, in network namespaces of its own.
//! Needs root; WireGuard cases need `wireguard-go` and `wg`.

mod clsact;
mod devices;
mod echo;
mod events;
mod lookup;
mod route_table;
mod routes;
mod rules;
mod sysctl;
mod wireguard;

use std::process::{Command, Stdio};

use steer_user::net::{Device, Netlink, enter_netns};
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
        assert!(self.try_ip(arguments), "ip {arguments}");
    }

    /// Runs `ip` inside; whether it went well.
    fn try_ip(&self, arguments: &str) -> bool {
        self.exec("ip", &arguments.split(' ').collect::<Vec<_>>())
    }

    /// Moves this thread inside.
    fn enter(&self) {
        enter_netns(&self.0).expect("enter");
    }

    /// What `ip -json …` says inside.
    fn json(&self, arguments: &str) -> Vec<serde_json::Value> {
        let output = Command::new("ip")
            .args(["-netns", &self.0, "-json", "-Numeric"])
            .args(arguments.split(' '))
            .output()
            .expect("ip");
        // A table that nothing was ever put in is an error to `ip`, and no text at all.
        let text = String::from_utf8(output.stdout).expect("text");
        let start = text.find(['[', '{']).map_or("[]", |start| &text[start..]);
        serde_json::from_str(start).unwrap_or_else(|_| panic!("ip {arguments}: {text}"))
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

/// The device of this name as it is now.
async fn device(netlink: &Netlink, name: &str) -> Device {
    let devices = netlink.devices().await.expect("devices");
    devices.by_name(name).expect(name).clone()
}
