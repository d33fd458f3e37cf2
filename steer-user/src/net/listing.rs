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
pub(super) const TRIES: usize = 10;

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

/// Lists again what was [`interrupted`].
async fn whole<T>(list: impl AsyncFn() -> Result<T, NetError>) -> Result<T, NetError> {
    for _ in 1..TRIES {
        match list().await {
            Err(error) if error.is_interrupted() => {}
            result => return result,
        }
    }
    list().await
}

impl Netlink {
    /// All routes of one table, or steer's of all tables.
    pub(super) async fn listed_routes(
        &self,
        family: Family,
        table: Option<u32>,
    ) -> Result<Vec<RouteMessage>, NetError> {
        let mut routes = match whole(async || self.listed_once(family, table).await).await {
            // Nothing was ever put into this table.
            Err(error) if error.errno() == Some(libc::ENOENT) => Vec::new(),
            Err(error) if family.is_unknown(&error) => Vec::new(),
            listed => listed?,
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
    use std::cell::Cell;

    use super::*;

    fn error(cause: io::Error) -> NetError {
        let what = "list".into();
        NetError::Request { what, cause }
    }

    #[tokio::test]
    async fn what_changes_is_listed_again() {
        let calls = Cell::new(0);
        let after = async |failures: usize, cause: fn() -> io::Error| {
            calls.set(0);
            let list = async || {
                calls.set(calls.get() + 1);
                if calls.get() > failures {
                    Ok(())
                } else {
                    Err(error(cause()))
                }
            };
            let result = whole(list).await;
            (result.is_ok(), calls.get())
        };
        assert_eq!(after(0, interrupted).await, (true, 1));
        assert_eq!(after(TRIES - 1, interrupted).await, (true, TRIES));
        assert_eq!(after(TRIES, interrupted).await, (false, TRIES));
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(after(1, refused).await, (false, 1));
    }
}
