//! Next-hop objects (`ip nexthop`): which devices a route by `nhid` uses.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator, parse_u32,
};
use netlink_proto::sys::protocols::NETLINK_ROUTE;

use super::exchange::exchange;

/// A next-hop object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Its number.
    pub id: u32,
    /// Objects that a group consists of, and their weights, from 1. A member is never a group itself.
    pub members: Vec<(u32, u32)>,
    /// The device, if it leads to one.
    pub device: Option<u32>,
    /// It leads on in a way that only the kernel can go: encapsulated.
    pub is_wrapped: bool,
    /// Its device is down.
    pub is_dead: bool,
}

/// The devices of a next-hop object, or of all members of a group of them.
/// None for one that drops.
pub(super) async fn devices_of(id: u32) -> io::Result<Vec<u32>> {
    let next_hop = ask(id).await?;
    let mut devices: Vec<u32> = next_hop.device.into_iter().collect();
    for (member, _) in next_hop.members {
        devices.extend(ask(member).await?.device);
    }
    Ok(devices)
}

/// All next-hop objects. None from a kernel that knows none.
pub(super) async fn all() -> io::Result<Vec<NextHop>> {
    match exchange(NETLINK_ROUTE, question(0), NLM_F_DUMP).await {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        answer => answer,
    }
}

async fn ask(id: u32) -> io::Result<NextHop> {
    let answer = exchange(NETLINK_ROUTE, question(id), NLM_F_ACK).await?;
    answer
        .into_iter()
        .next()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `RTM_GETNEXTHOP` with the id alone; 0 asks for all.
fn question(id: u32) -> NetlinkMessage<NextHop> {
    let question = NextHop {
        id,
        ..NextHop::default()
    };
    NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(question),
    )
}

pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// Length of `struct nhmsg`, whose last four bytes are flags.
const HEADER_BYTES: usize = 8;
/// `RTNH_F_DEAD` of `linux/rtnetlink.h`.
const DEAD: u32 = 1;
/// Length of `struct nexthop_grp`: the id; the weight, less 1, in two bytes; two more.
const MEMBER_BYTES: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NHA_ENCAP: u16 = 8;
/// The attribute's number; the bits above are flags.
const KIND_MASK: u16 = 0x3fff;

impl NetlinkSerializable for NextHop {
    fn message_type(&self) -> u16 {
        RTM_GETNEXTHOP
    }

    fn buffer_len(&self) -> usize {
        HEADER_BYTES + if self.id == 0 { 0 } else { 8 }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attribute) = buffer.split_at_mut(HEADER_BYTES);
        header.fill(0);
        if self.id != 0 {
            attribute[..2].copy_from_slice(&8_u16.to_ne_bytes());
            attribute[2..4].copy_from_slice(&NHA_ID.to_ne_bytes());
            attribute[4..8].copy_from_slice(&self.id.to_ne_bytes());
        }
    }
}

impl NetlinkDeserializable for NextHop {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if header.message_type == RTM_NEWNEXTHOP {
            Self::parse(payload)
        } else {
            Err(format!("message type {}", header.message_type).into())
        }
    }
}

impl NextHop {
    /// The object of a message of the kernel.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let (head, attributes) = payload
            .split_at_checked(HEADER_BYTES)
            .ok_or_else(|| DecodeError::buffer_too_small(payload.len(), HEADER_BYTES))?;
        let mut next_hop = Self {
            is_dead: parse_u32(&head[4..])? & DEAD != 0,
            ..Self::default()
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match attribute.kind() & KIND_MASK {
                NHA_ID => next_hop.id = parse_u32(attribute.value())?,
                NHA_OIF => next_hop.device = Some(parse_u32(attribute.value())?),
                NHA_ENCAP => next_hop.is_wrapped = true,
                NHA_GROUP => {
                    for member in attribute.value().chunks_exact(MEMBER_BYTES) {
                        // The upper byte is always 0 before Linux 6.12.
                        let weight = u16::from_le_bytes([member[4], member[5]]);
                        let id = parse_u32(&member[..4])?;
                        next_hop.members.push((id, u32::from(weight) + 1));
                    }
                }
                _ => {}
            }
        }
        Ok(next_hop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::attribute;
    use super::*;

    #[test]
    fn objects_and_groups() {
        let object = [
            vec![2, 0, 4, 0],
            1_u32.to_ne_bytes().to_vec(),
            attribute(NHA_ID, &7_u32.to_ne_bytes()),
            attribute(NHA_OIF, &3_u32.to_ne_bytes()),
        ];
        let parsed = NextHop::parse(&object.concat()).expect("an object");
        assert_eq!(
            (parsed.id, parsed.device, parsed.is_dead),
            (7, Some(3), true)
        );

        let member =
            |id: u32, low: u8, high: u8| [&id.to_ne_bytes()[..], &[low, high, 0, 0]].concat();
        let group = [
            vec![0; 8],
            attribute(NHA_ID, &9_u32.to_ne_bytes()),
            attribute(NHA_GROUP, &[member(7, 2, 0), member(8, 255, 1)].concat()),
        ];
        let parsed = NextHop::parse(&group.concat()).expect("a group");
        assert_eq!(parsed.members, [(7, 3), (8, 512)]);
        assert_eq!((parsed.device, parsed.is_dead), (None, false));
        assert!(NextHop::parse(&[0; 4]).is_err());
    }
}
