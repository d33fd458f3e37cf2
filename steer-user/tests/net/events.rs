//! What a daemon hears of.

use std::time::Duration;

use steer_user::net::{DeviceEvent, DeviceEvents, Netlink};

use crate::{Netns, block_on, device};

/// The next event.
async fn next(events: &mut DeviceEvents) -> DeviceEvent {
    tokio::time::timeout(Duration::from_secs(5), events.next())
        .await
        .expect("an event in time")
        .expect("an event")
}

#[test]
fn devices_come_and_go() {
    let Some(netns) = Netns::new("events") else {
        return;
    };
    netns.enter();
    block_on(async {
        let mut events = DeviceEvents::subscribe().expect("subscribe");
        netns.ip("link add lan0 type veth peer name far0");
        netns.ip("link set lan0 up");
        netns.ip("link del lan0");
        let (mut appeared, mut went_up) = (false, false);
        loop {
            match next(&mut events).await {
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
fn addresses_change() {
    let Some(netns) = Netns::new("address-events") else {
        return;
    };
    netns.ip("link add lan0 type veth peer name far0");
    netns.ip("link set lan0 up");
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let lan = device(&netlink, "lan0").await.ifindex;
        for change in [
            "addr add 10.1.0.1/24 dev lan0",
            "addr del 10.1.0.1/24 dev lan0",
            "addr add fd00:1::1/64 dev lan0 nodad",
            "addr del fd00:1::1/64 dev lan0",
        ] {
            // A socket of its own, so that each change is heard of by itself.
            let mut events = DeviceEvents::subscribe().expect("subscribe");
            netns.ip(change);
            let expected = DeviceEvent::AddressesChanged { ifindex: lan };
            while next(&mut events).await != expected {}
        }
    });
}

#[test]
fn leaving_a_bridge_is_no_end() {
    let Some(netns) = Netns::new("bridge-events") else {
        return;
    };
    netns.ip("link add br0 type bridge");
    netns.ip("link add lan0 type veth peer name far0");
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let bridge = device(&netlink, "br0").await.ifindex;
        let mut events = DeviceEvents::subscribe().expect("subscribe");
        netns.ip("link set lan0 master br0");
        netns.ip("link set lan0 nomaster");
        netns.ip("link del lan0");
        let mut masters = Vec::new();
        loop {
            match next(&mut events).await {
                DeviceEvent::Changed(device) if device.name == "lan0" => {
                    assert_eq!(device.kind.as_deref(), Some("veth"), "a whole description");
                    masters.push(device.master.map(|master| master.ifindex));
                }
                DeviceEvent::Removed { name, .. } if name == "lan0" => break,
                _ => {}
            }
        }
        masters.dedup();
        assert!(masters.ends_with(&[Some(bridge), None]), "{masters:?}");
    });
}
