//! XDP programs on devices.

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};

use super::{NetError, Netlink};

/// An XDP program on a device: it sees what the device receives before all others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// The device.
    pub ifindex: u32,
    /// The kernel's number of the program.
    pub id: u32,
    /// Where it runs, as `ip link set … off` wants it: `xdpgeneric`, `xdpdrv` or `xdpoffload`.
    pub place: &'static str,
}

impl Netlink {
    /// The XDP programs of all devices.
    pub async fn xdp_programs(&self) -> Result<Vec<XdpProgram>, NetError> {
        let mut found = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links
            .try_next()
            .await
            .map_err(|error| NetError::request("list of devices", error))?
        {
            found.extend(programs(&message));
        }
        Ok(found)
    }
}

fn programs(message: &LinkMessage) -> Vec<XdpProgram> {
    let of_link = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => Some(xdp),
            _ => None,
        });
    let program = |xdp: &LinkXdp| {
        // `IFLA_XDP_PROG_ID` repeats the only one of them.
        let (place, id) = match xdp {
            LinkXdp::SkbProgId(id) => ("xdpgeneric", *id),
            LinkXdp::DrvProgId(id) => ("xdpdrv", *id),
            LinkXdp::HwProgId(id) => ("xdpoffload", *id),
            _ => return None,
        };
        let ifindex = message.header.index;
        Some(XdpProgram { ifindex, id, place })
    };
    of_link.flatten().filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::XdpAttached;

    use super::*;

    #[test]
    fn programs_of_a_link() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        let mut found = |xdp: Vec<LinkXdp>| {
            message.attributes = vec![LinkAttribute::Mtu(1_500), LinkAttribute::Xdp(xdp)];
            let found = programs(&message).into_iter();
            found
                .map(|p| (p.ifindex, p.id, p.place))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(vec![LinkXdp::Attached(XdpAttached::None)]), []);
        let generic = vec![
            LinkXdp::Attached(XdpAttached::SocketBuffer),
            LinkXdp::ProgId(41),
            LinkXdp::SkbProgId(41),
        ];
        assert_eq!(found(generic), [(7, 41, "xdpgeneric")]);
        let two = vec![LinkXdp::DrvProgId(1), LinkXdp::SkbProgId(2)];
        assert_eq!(found(two), [(7, 1, "xdpdrv"), (7, 2, "xdpgeneric")]);
    }
}
