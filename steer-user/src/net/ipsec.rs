//! `IPsec` policies (XFRM), as far as they concern packets that are forwarded.

use std::fmt;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    NLA_HEADER_SIZE, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_proto::sys::protocols::NETLINK_XFRM;

use super::exchange::exchange;

/// Messages and attributes of `linux/xfrm.h`.
const XFRM_MSG_GETPOLICY: u16 = 0x15;
const XFRMA_TMPL: u16 = 5;
const XFRMA_MARK: u16 = 21;
const XFRMA_IF_ID: u16 = 31;
/// `struct xfrm_userpolicy_info`: the selector (56 bytes), limits (64), use (32), priority, index, and the rest.
const INFO_BYTES: usize = 168;
const DIRECTION_AT: usize = 160;
const ACTION_AT: usize = 161;
const DIRECTION_OUT: u8 = 1;
const DIRECTION_FORWARD: u8 = 2;
const ACTION_ALLOW: u8 = 0;

/// A policy that protects or blocks packets that are forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpsecPolicy {
    /// Where the packets come from.
    pub source: IpNet,
    /// Where they go.
    pub destination: IpNet,
    /// Whether it is about what leaves (`out`), else about what is forwarded (`fwd`).
    pub is_out: bool,
}

impl fmt::Display for IpsecPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.is_out { "out" } else { "fwd" };
        write!(
            f,
            "src {} dst {} dir {direction}",
            self.source, self.destination
        )
    }
}

/// The policies of this network namespace; none where the kernel has no `IPsec`.
pub async fn ipsec_policies() -> io::Result<Vec<IpsecPolicy>> {
    let question = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(Message(Vec::new())),
    );
    let answers = match exchange(NETLINK_XFRM, question, NLM_F_DUMP).await {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
        answers => answers?,
    };
    Ok(answers
        .iter()
        .filter_map(|Message(bytes)| policy(bytes))
        .collect())
}

/// The policy of an answer; `None` for one that changes nothing for a forwarded packet without a mark.
fn policy(bytes: &[u8]) -> Option<IpsecPolicy> {
    let (info, attributes) = bytes.split_at_checked(INFO_BYTES)?;
    let is_out = match info[DIRECTION_AT] {
        DIRECTION_OUT => true,
        DIRECTION_FORWARD => false,
        _ => return None,
    };
    let mut has_template = false;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        let value = attribute.into_inner().get(NLA_HEADER_SIZE..length)?;
        match kind {
            XFRMA_TMPL => has_template = !value.is_empty(),
            // Those of an XFRM device, and those of marked packets, are about others.
            XFRMA_MARK | XFRMA_IF_ID if value.iter().any(|byte| *byte != 0) => return None,
            _ => {}
        }
    }
    if info[ACTION_AT] == ACTION_ALLOW && !has_template {
        return None;
    }
    let family = u16::from_ne_bytes([info[40], info[41]]);
    let network = |at: usize, length: u8| {
        let address: IpAddr = match i32::from(family) {
            libc::AF_INET => IpAddr::from(*info.get(at..)?.first_chunk::<4>()?),
            libc::AF_INET6 => IpAddr::from(*info.get(at..)?.first_chunk::<16>()?),
            _ => return None,
        };
        IpNet::new(address, length).ok()
    };
    // `struct xfrm_selector`: destination, source, ports, family, lengths of the prefixes.
    Some(IpsecPolicy {
        destination: network(0, info[42])?,
        source: network(16, info[43])?,
        is_out,
    })
}

/// A message as it is; empty, the question for all policies.
#[derive(Clone, Debug)]
struct Message(Vec<u8>);

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        XFRM_MSG_GETPOLICY
    }

    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

impl NetlinkDeserializable for Message {
    type Error = std::convert::Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(payload.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::attribute;
    use super::*;

    /// 10.1.0.0/16 to 10.2.0.0/16.
    fn bytes(direction: u8, action: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut info = vec![0; INFO_BYTES];
        info[..4].copy_from_slice(&[10, 2, 0, 0]);
        info[16..20].copy_from_slice(&[10, 1, 0, 0]);
        let family = u16::try_from(libc::AF_INET).expect("small");
        info[40..42].copy_from_slice(&family.to_ne_bytes());
        (info[42], info[43]) = (16, 16);
        (info[DIRECTION_AT], info[ACTION_AT]) = (direction, action);
        info.extend(attributes.concat());
        info
    }

    #[test]
    fn policies() {
        let told = |direction, action, attributes: &[Vec<u8>]| {
            policy(&bytes(direction, action, attributes)).map(|policy| policy.to_string())
        };
        let template = attribute(XFRMA_TMPL, &[1; 64]);
        let protects = std::slice::from_ref(&template);
        assert_eq!(
            told(1, 0, protects).as_deref(),
            Some("src 10.1.0.0/16 dst 10.2.0.0/16 dir out")
        );
        assert_eq!(
            told(2, 0, protects).as_deref(),
            Some("src 10.1.0.0/16 dst 10.2.0.0/16 dir fwd")
        );
        // What only lets packets pass, what is received, and what is about others.
        assert_eq!(told(1, 0, &[]), None);
        assert!(told(1, 1, &[]).is_some(), "blocks");
        assert_eq!(told(0, 0, protects), None);
        assert_eq!(told(3, 0, protects), None);
        let of_device = attribute(XFRMA_IF_ID, &7_u32.to_ne_bytes());
        assert_eq!(told(1, 0, &[template.clone(), of_device]), None);
        let no_device = attribute(XFRMA_IF_ID, &[0; 4]);
        assert!(told(1, 0, &[template.clone(), no_device]).is_some());
        let marked = attribute(XFRMA_MARK, &[1; 8]);
        assert_eq!(told(1, 0, &[template, marked]), None);
    }

    #[test]
    fn what_is_cut_off() {
        let whole = bytes(1, 0, &[attribute(XFRMA_TMPL, &[1; 64])]);
        for length in 0..whole.len() {
            assert_eq!(policy(&whole[..length]), None, "{length}");
        }
        assert!(policy(&whole).is_some());
    }
}
