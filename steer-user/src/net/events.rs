//! What happens to devices and their addresses while steer watches.

use futures_util::{FutureExt, StreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;

use super::{Device, NetError, links};

/// Something happened to a device or its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// It appeared, or its name, MTU or flags may have changed. Addresses and WireGuard are not filled in.
    Changed(Device),
    /// It is gone.
    Removed {
        /// Its number, which the kernel may give to another device later.
        ifindex: u32,
        /// Its name.
        name: String,
    },
    /// An address of a device came, went or changed; take a new snapshot.
    AddressesChanged {
        /// Number of the device.
        ifindex: u32,
    },
    /// Events were lost; take a new snapshot.
    Lost,
}

/// A stream of [`DeviceEvent`]s.
///
/// Subscribe first and take the snapshot then, so that nothing falls between.
pub struct DeviceEvents {
    messages: Messages,
}

type Messages = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

impl DeviceEvents {
    /// Subscribes to devices and addresses of the current network namespace.
    pub fn subscribe() -> Result<Self, NetError> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ])
        .map_err(NetError::Socket)?;
        tokio::spawn(connection);
        Ok(Self {
            messages: messages.map(|(message, _)| message).boxed(),
        })
    }

    /// The next event; `None` when the socket failed for good.
    ///
    /// Cancel safe: a dropped call loses no event.
    pub async fn next(&mut self) -> Option<DeviceEvent> {
        loop {
            let message = self.messages.next().await?;
            if let Some(event) = event(message.payload) {
                return Some(event);
            }
        }
    }

    /// Takes the events that are there already, for whom a new snapshot tells all of them; how many they were.
    pub fn take_all(&mut self) -> usize {
        std::iter::from_fn(|| self.next().now_or_never().flatten()).count()
    }
}

fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<DeviceEvent> {
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Overrun(_) => return Some(DeviceEvent::Lost),
        _ => return None,
    };
    match message {
        // A bridge tells of its ports by messages of its own family: a device
        // that leaves the bridge is no removed device.
        RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)
            if message.header.interface_family == AddressFamily::Bridge =>
        {
            None
        }
        RouteNetlinkMessage::NewLink(message) => links::device(&message).map(DeviceEvent::Changed),
        RouteNetlinkMessage::DelLink(message) => {
            links::device(&message).map(|device| DeviceEvent::Removed {
                ifindex: device.ifindex,
                name: device.name,
            })
        }
        RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message) => {
            Some(DeviceEvent::AddressesChanged {
                ifindex: message.header.index,
            })
        }
        _ => None,
    }
}
