//! Next-hop objects (`ip nexthop`): which devices a route by `nhid` uses.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator, parse_u32,
};
use netlink_proto::sys::protocols::NETLINK_ROUTE;

use super::exchange::exchange;

/// The devices of a next-hop object, or of all members of a group of them.
/// None for one that drops.
pub(super) async fn devices_of(id: u32) -> io::Result<Vec<u32>> {
    let next_hop = ask(id).await?;
    let mut devices: Vec<u32> = next_hop.device.into_iter().collect();
    // A member is never a group itself.
    for member in next_hop.members {
        devices.extend(ask(member).await?.device);
    }
    Ok(devices)
}

async fn ask(id: u32) -> io::Result<NextHop> {
    let question = NextHop {
        id,
        ..NextHop::default()
    };
    let message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(question),
    );
    let answer = exchange(NETLINK_ROUTE, message, NLM_F_ACK).await?;
    answer
        .into_iter()
        .next()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `RTM_GETNEXTHOP` with the id alone, and the answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NextHop {
    id: u32,
    /// Objects that a group consists of.
    members: Vec<u32>,
    device: Option<u32>,
}

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
/// Length of `struct nhmsg`.
const HEADER_BYTES: usize = 8;
/// Length of `struct nexthop_grp`, which begins with the id.
const MEMBER_BYTES: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;

impl NetlinkSerializable for NextHop {
    fn message_type(&self) -> u16 {
        RTM_GETNEXTHOP
    }

    fn buffer_len(&self) -> usize {
        HEADER_BYTES + 8
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attribute) = buffer.split_at_mut(HEADER_BYTES);
        header.fill(0);
        attribute[..2].copy_from_slice(&8_u16.to_ne_bytes());
        attribute[2..4].copy_from_slice(&NHA_ID.to_ne_bytes());
        attribute[4..8].copy_from_slice(&self.id.to_ne_bytes());
    }
}

impl NetlinkDeserializable for NextHop {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if header.message_type != RTM_NEWNEXTHOP {
            return Err(format!("message type {}", header.message_type).into());
        }
        let attributes = payload
            .get(HEADER_BYTES..)
            .ok_or_else(|| DecodeError::buffer_too_small(payload.len(), HEADER_BYTES))?;
        let mut next_hop = Self::default();
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match attribute.kind() {
                NHA_ID => next_hop.id = parse_u32(attribute.value())?,
                NHA_OIF => next_hop.device = Some(parse_u32(attribute.value())?),
                NHA_GROUP => {
                    for member in attribute.value().chunks_exact(MEMBER_BYTES) {
                        next_hop.members.push(parse_u32(&member[..4])?);
                    }
                }
                _ => {}
            }
        }
        Ok(next_hop)
    }
}
