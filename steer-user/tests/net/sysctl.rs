//! Settings under `/proc/sys/net`, of the right namespace and device.

use std::process::Command;

use steer_user::net::sysctl::{
    RpFilter, ipv4_forwarding, ipv6_disabled, ipv6_forwarding, rp_filter, rp_filter_name,
    set_rp_filter,
};

use crate::{Netns, run};

/// What `sysctl` says inside.
fn by_sysctl(netns: &Netns, name: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", &netns.0, "sysctl", "-n", name])
        .output()
        .expect("sysctl");
    assert!(output.status.success(), "{name}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .into()
}

#[test]
fn of_this_namespace() {
    let Some(netns) = Netns::new("sysctl") else {
        return;
    };
    if !run("sysctl", &["--version"]) {
        println!("SKIP of_this_namespace: no sysctl");
        return;
    }
    let set = |setting: &str| assert!(netns.exec("sysctl", &["-w", setting]), "{setting}");
    netns.ip("link add lan0.10 type veth peer name lan0");
    set("net/ipv4/conf/all/rp_filter=0");
    set("net/ipv4/conf/lan0/rp_filter=0");
    set("net/ipv4/conf/lan0.10/rp_filter=1");
    netns.enter();
    let filter = |all, device| RpFilter { all, device };
    assert_eq!(rp_filter("lan0.10").expect("there"), filter(0, 1));
    assert_eq!(rp_filter("lan0").expect("there"), filter(0, 0));
    set_rp_filter("lan0.10", 2).expect("written");
    assert_eq!(by_sysctl(&netns, &rp_filter_name("lan0.10")), "2");
    assert_eq!(by_sysctl(&netns, &rp_filter_name("lan0")), "0");
    set("net/ipv4/conf/all/rp_filter=1");
    assert_eq!(rp_filter("lan0").expect("there").effective(), 1);
    let error = rp_filter("lan9").expect_err("no such device");
    assert_eq!(
        error.to_string(),
        "sysctl net.ipv4.conf.lan9.rp_filter: No such file or directory (os error 2)"
    );

    for value in [false, true] {
        let number = u32::from(value);
        set(&format!("net.ipv4.ip_forward={number}"));
        set(&format!("net.ipv6.conf.all.forwarding={number}"));
        set(&format!("net/ipv6/conf/lan0.10/disable_ipv6={number}"));
        assert_eq!(ipv4_forwarding().expect("there"), value);
        assert_eq!(ipv6_forwarding().expect("there"), Some(value));
        assert_eq!(ipv6_disabled("lan0.10").expect("there"), Some(value));
        assert_eq!(ipv6_disabled("lan0").expect("there"), Some(false));
    }
    netns.ip("link set lan0 mtu 1000");
    assert_eq!(ipv6_disabled("lan0").expect("no IPv6 there"), None);
}
