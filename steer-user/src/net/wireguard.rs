//! Asking WireGuard about itself: kernel devices by generic netlink,
//! userspace ones by their socket.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use ipnet::IpNet;
use log::debug;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd, WireguardMessage,
    WireguardPeer, WireguardPeerAttribute,
};
use netlink_proto::sys::protocols::NETLINK_GENERIC;

use super::exchange::exchange;
use super::{Device, Peer, WireGuard, uapi};

/// How many devices are asked at once: each takes a socket, and one that is stuck its time.
const AT_ONCE: usize = 32;

/// Fills in `wireguard` of every device that is WireGuard and would tell.
pub(super) async fn ask_all(devices: &mut [Device]) {
    stream::iter(devices)
        .for_each_concurrent(AT_ONCE, async |device| {
            device.wireguard = ask(device).await;
        })
        .await;
}

/// What WireGuard tells of a device now; `None` if it is not WireGuard, or would not tell.
pub async fn ask(device: &Device) -> Option<WireGuard> {
    let answer = match device.kind.as_deref() {
        Some("wireguard") => ask_kernel(device.ifindex).await,
        Some("tun") if device.layer3 => uapi::get(&device.name).await,
        _ => return None,
    };
    let told = |error: &io::Error| debug!("{}: WireGuard does not answer: {error}", device.name);
    answer.inspect_err(told).ok()
}

async fn ask_kernel(ifindex: u32) -> io::Result<WireGuard> {
    let family = family_id("wireguard").await?;
    let mut message = GenlMessage::from_payload(WireguardMessage {
        cmd: WireguardCmd::GetDevice,
        attributes: vec![WireguardAttribute::IfIndex(ifindex)],
    });
    message.set_resolved_family_id(family);
    let mut device = WireGuard::default();
    for part in exchange(NETLINK_GENERIC, message.into(), NLM_F_DUMP).await? {
        add_part(&mut device, &part.payload.attributes);
    }
    Ok(device)
}

/// Adds one part of an answer. Only the first one has more than peers.
fn add_part(device: &mut WireGuard, attributes: &[WireguardAttribute]) {
    for attribute in attributes {
        match attribute {
            WireguardAttribute::Peers(peers) => add_peers(device, peers),
            // 0 is "none".
            WireguardAttribute::Fwmark(mark) if *mark != 0 => device.fwmark = Some(*mark),
            _ => {}
        }
    }
}

/// The number under which the kernel knows a generic netlink family.
async fn family_id(name: &str) -> io::Result<u16> {
    let message = GenlMessage::from_payload(GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(name.into())],
    });
    exchange(NETLINK_GENERIC, message.into(), NLM_F_ACK)
        .await?
        .into_iter()
        .flat_map(|part| part.payload.nlas)
        .find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(id),
            _ => None,
        })
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Adds peers of one part of the answer. A peer whose allowed IPs do not fit
/// into one part is continued in the next one under the same key, with nothing else.
fn add_peers(device: &mut WireGuard, peers: &[WireguardPeer]) {
    for attributes in peers {
        let mut peer = Peer::default();
        for attribute in attributes.iter() {
            match attribute {
                WireguardPeerAttribute::PublicKey(key) => peer.public_key = *key,
                WireguardPeerAttribute::PersistentKeepalive(secs) => {
                    // 0 is "off".
                    peer.keepalive_secs = Some(*secs).filter(|secs| *secs != 0);
                }
                WireguardPeerAttribute::Endpoint(endpoint) => peer.endpoint = Some(*endpoint),
                WireguardPeerAttribute::AllowedIps(networks) => {
                    peer.allowed_ips
                        .extend(networks.iter().filter_map(allowed_ip));
                }
                WireguardPeerAttribute::LastHandshake(time) => {
                    let seconds = u64::try_from(time.seconds).unwrap_or(0);
                    let nanoseconds = u32::try_from(time.nano_seconds).unwrap_or(0);
                    peer.latest_handshake =
                        (seconds > 0).then(|| Duration::new(seconds, nanoseconds));
                }
                WireguardPeerAttribute::RxBytes(bytes) => peer.rx_bytes = *bytes,
                WireguardPeerAttribute::TxBytes(bytes) => peer.tx_bytes = *bytes,
                _ => {}
            }
        }
        match device.peers.last_mut() {
            Some(begun) if begun.public_key == peer.public_key => {
                begun.allowed_ips.append(&mut peer.allowed_ips);
            }
            _ => device.peers.push(peer),
        }
    }
}

fn allowed_ip(attributes: &WireguardAllowedIp) -> Option<IpNet> {
    let mut address: Option<IpAddr> = None;
    let mut length = None;
    for attribute in attributes.iter() {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(value) => address = Some(*value),
            WireguardAllowedIpAttr::Cidr(value) => length = Some(*value),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

#[cfg(test)]
mod tests {
    use netlink_packet_wireguard::{WireguardAddressFamily, WireguardTimeSpec};

    use super::*;

    #[test]
    fn the_kernel_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            assert_eq!(family_id("nlctrl").await.expect("always there"), 16);
            let error = family_id("no such family").await.expect_err("not there");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            let error = ask_kernel(u32::MAX)
                .await
                .expect_err("no such device, or no WireGuard");
            assert!(error.raw_os_error().is_some(), "{error}");
        });
    }

    #[test]
    fn an_answer() {
        let peer = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey([1; 32]),
            WireguardPeerAttribute::PersistentKeepalive(25),
            WireguardPeerAttribute::Endpoint("192.0.2.1:51820".parse().expect("address")),
            WireguardPeerAttribute::LastHandshake(WireguardTimeSpec {
                seconds: 7,
                nano_seconds: 5,
            }),
            WireguardPeerAttribute::RxBytes(1_000),
            WireguardPeerAttribute::TxBytes(u64::MAX),
            WireguardPeerAttribute::AllowedIps(vec![WireguardAllowedIp(vec![
                WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv4),
                WireguardAllowedIpAttr::IpAddr("10.2.0.0".parse().expect("address")),
                WireguardAllowedIpAttr::Cidr(16),
            ])]),
        ]);
        let mut device = WireGuard::default();
        add_part(&mut device, &[WireguardAttribute::Fwmark(0)]);
        assert_eq!(device, WireGuard::default());
        add_part(
            &mut device,
            &[
                WireguardAttribute::Fwmark(51_820),
                WireguardAttribute::Peers(vec![peer]),
            ],
        );
        // The rest of its allowed IPs, and another peer.
        let more = |key| {
            WireguardPeer(vec![
                WireguardPeerAttribute::PublicKey([key; 32]),
                WireguardPeerAttribute::AllowedIps(vec![WireguardAllowedIp(vec![
                    WireguardAllowedIpAttr::IpAddr("fd00::".parse().expect("address")),
                    WireguardAllowedIpAttr::Cidr(8),
                ])]),
            ])
        };
        add_part(
            &mut device,
            &[WireguardAttribute::Peers(vec![more(1), more(2)])],
        );
        let expected = Peer {
            endpoint: "192.0.2.1:51820".parse().ok(),
            allowed_ips: ["10.2.0.0/16", "fd00::/8"]
                .map(|network| network.parse().expect("network"))
                .into(),
            latest_handshake: Some(Duration::new(7, 5)),
            rx_bytes: 1_000,
            tx_bytes: u64::MAX,
            public_key: [1; 32],
            keepalive_secs: Some(25),
        };
        assert_eq!(device.peers[0], expected);
        assert_eq!(device.peers.len(), 2);
        assert_eq!(device.fwmark, Some(51_820));
    }
}
