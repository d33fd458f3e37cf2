//! Listings that are whole.

use std::io;

use futures_util::StreamExt as _;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAttribute, RouteMessage, RouteProtocol},
};

use super::{Family, NetError, Netlink, ROUTE_PROTOCOL, routes::table_of};

/// How often at most something is listed at once that changes meanwhile.
const TRIES: usize = 4;

/// Whether the kernel says that a listing changed while it was made, and may lack something.
pub(super) fn is_interrupted(header: &NetlinkHeader) -> bool {
    header.flags & NLM_F_DUMP_INTR != 0
}

/// The error of such a listing.
pub(super) fn interrupted() -> io::Error {
    io::Error::new(
        io::ErrorKind::Interrupted,
        "it changed while it was listed; try again",
    )
}

/// Counts how often something was listed.
#[derive(Default)]
pub(super) struct Tries(usize);

impl Tries {
    /// Whether to list again what failed so: if it was [`interrupted`], and not too often.
    pub(super) fn is_left(&mut self, error: &io::Error) -> bool {
        self.0 += 1;
        error.kind() == io::ErrorKind::Interrupted && self.0 < TRIES
    }
}

impl Netlink {
    /// All routes of one table, or steer's of all tables.
    pub(super) async fn listed_routes(
        &self,
        family: Family,
        table: Option<u32>,
    ) -> Result<Vec<RouteMessage>, NetError> {
        let mut tries = Tries::default();
        let mut routes = loop {
            match self.listed_once(family, table).await {
                Err(NetError::Request { cause, .. }) if tries.is_left(&cause) => {}
                // Nothing was ever put into this table.
                Err(error) if error.errno() == Some(libc::ENOENT) => break Vec::new(),
                Err(error) if family.is_unknown(&error) => break Vec::new(),
                listed => break listed?,
            }
        };
        // A kernel without IPv6 tells of the families that it has.
        routes.retain(|route| {
            route.header.address_family == family.number()
                && table.is_none_or(|table| table_of(route) == table)
        });
        Ok(routes)
    }

    async fn listed_once(
        &self,
        family: Family,
        table: Option<u32>,
    ) -> Result<Vec<RouteMessage>, NetError> {
        let failed = |error| NetError::request(format!("list of {family} routes"), error);
        let mut question = RouteMessage::default();
        question.header.address_family = family.number();
        match table {
            Some(table) => question.attributes.push(RouteAttribute::Table(table)),
            None => question.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL),
        }
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(question));
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut handle = self.handle.clone();
        let mut messages = handle.request(request).map_err(failed)?;
        let (mut routes, mut is_whole) = (Vec::new(), true);
        while let Some(message) = messages.next().await {
            is_whole &= !is_interrupted(&message.header);
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                    routes.push(route);
                }
                NetlinkPayload::Error(error) => {
                    return Err(failed(rtnetlink::Error::NetlinkError(error)));
                }
                _ => return Err(failed(rtnetlink::Error::UnexpectedMessage(message))),
            }
        }
        if is_whole {
            Ok(routes)
        } else {
            Err(NetError::Request {
                what: format!("list of {family} routes"),
                cause: interrupted(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLM_F_MULTIPART;

    use super::*;

    #[test]
    fn what_changes_is_listed_again() {
        let mut tries = Tries::default();
        let left: Vec<_> = (0..TRIES).map(|_| tries.is_left(&interrupted())).collect();
        let (last, before) = left.split_last().expect("some");
        assert!(before.iter().all(|is_left| *is_left) && !last);
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        assert!(!Tries::default().is_left(&refused));
        let header = |flags| {
            let mut header = NetlinkHeader::default();
            header.flags = flags;
            header
        };
        assert!(is_interrupted(&header(NLM_F_DUMP_INTR | NLM_F_MULTIPART)));
        assert!(!is_interrupted(&header(NLM_F_MULTIPART)));
    }
}
