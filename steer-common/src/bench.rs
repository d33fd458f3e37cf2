//! The packets of the benchmark's source: what it varies, and where.
//!
//! The source is a program in the kernel that draws a flow for each packet and writes it into the
//! packet's headers. What it needs to know is in the packet's payload, so that it needs no map.

use bytemuck::{Pod, Zeroable};

/// Names of the programs in the benchmark's object.
pub mod programs {
    /// Redirects everything to the device [`DEVICE`](super::DEVICE).
    pub const REDIRECT: &str = "bench_redirect";
    /// Leaves every packet to whoever comes next.
    pub const IDLE: &str = "bench_idle";
    /// The same as the first, and looks the packet's flow up in a map.
    pub const LOOK_UP: &str = "bench_look_up";
    /// The same in a map of the smallest entries there are.
    pub const LOOK_UP_SMALL: &str = "bench_look_up_small";
    /// Makes packets of many flows from one.
    pub const SOURCE: &str = "bench_source";
    /// Lets a packet of the source come out of its tunnel.
    pub const HOP: &str = "bench_hop";
    /// Drops what comes out of a device.
    pub const DROP: &str = "bench_drop";
    /// Takes what goes into a TUN device.
    pub const SINK: &str = "bench_sink";
}

/// Global variable of the programs that redirect: a device's number.
pub const DEVICE: &str = "BENCH_DEVICE";

/// The map of the program that looks flows up; the loader makes it as large as it has to be.
pub const FLOWS: &str = "bench_flows";
/// The same of the program whose entries are small.
pub const FLOWS_SMALL: &str = "bench_flows_small";

/// The headers in front of the payload: Ethernet, IPv4 without options, UDP.
pub const IPV4_PAYLOAD: usize = 14 + 20 + 8;
/// The same for IPv6.
pub const IPV6_PAYLOAD: usize = 14 + 40 + 8;
/// TTL or hop limit that every packet starts with.
pub const TTL: u8 = 64;
/// What the payload of the source's packets starts with, and that of others only by accident.
pub const MAGIC: u32 = 0xbe9c_5eed;

/// Hosts on the LAN that send.
const HOSTS: u32 = 200;
/// Hosts at the far end of a prefix. More than one, because the kernel looks up the route of several packets
/// to one address at once (`ip_list_rcv_finish` in `net/ipv4/ip_input.c`), which a gateway's traffic seldom is.
const FAR_HOSTS: u32 = 250;
/// Source ports of each host.
const PORTS: u32 = 50_000;

/// Values of [`Order::lost`].
pub mod lost {
    /// The gateway gets it.
    pub const NOWHERE: u32 = 0;
    /// The source drops it.
    pub const AT_SOURCE: u32 = 1;
    /// The program on the device in front of which the source is drops it: the kernel has made it a packet.
    pub const ON_LAN: u32 = 2;
    /// It is dropped where it comes out of a device that is no tunnel of the gateway's.
    pub const IN_TUNNEL: u32 = 3;
}

/// What the source is told, in the payload, in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Order {
    /// [`MAGIC`].
    pub magic: u32,
    /// Where the packet is lost before the gateway sees it, to measure the source alone.
    pub lost: u32,
    /// Flows are drawn from so many, at least 1.
    pub flows: u32,
    /// The far ends are in so many remote prefixes, 1 to 16,384.
    pub prefixes: u32,
    /// 0: from the LAN. More: out of so many tunnels, each flow out of the same one.
    pub tunnels: u32,
    /// IPv4: the sum of the header's words, without the checksum and what [`Drawn`] has.
    pub sum: u32,
}

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Last 16 bits of the address on the LAN.
    pub host: u16,
    /// Which remote prefix.
    pub prefix: u16,
    /// Last 16 bits of the far end's address, at most 250.
    pub far_host: u16,
    /// Port on the LAN.
    pub near_port: u16,
    /// Port at the far end.
    pub far_port: u16,
}

impl Drawn {
    /// The two words of the far end's address, IPv4: in `10.64.0.0/24` and one more /24 for each prefix.
    #[inline(always)]
    pub const fn ipv4_far(self) -> [u16; 2] {
        [
            0x0a40 + (self.prefix >> 8),
            (self.prefix << 8) | self.far_host,
        ]
    }
}

impl Order {
    /// Number `random` of 2^32, as a flow. Different flows differ in host, ports or both.
    #[inline(always)]
    pub const fn draw(&self, random: u32) -> Drawn {
        let number = ((random as u64 * self.flows as u64) >> 32) as u32;
        let prefixes = if self.prefixes == 0 { 1 } else { self.prefixes };
        let rest = number / HOSTS;
        Drawn {
            host: (2 + number % HOSTS) as u16,
            prefix: (number % prefixes) as u16,
            far_host: (1 + number % FAR_HOSTS) as u16,
            near_port: (1_024 + rest % PORTS) as u16,
            far_port: (1 + rest / PORTS) as u16,
        }
    }

    /// Checksum of the IPv4 header with what was drawn, whichever way it goes.
    #[inline(always)]
    pub const fn ipv4_checksum(&self, drawn: Drawn) -> u16 {
        let [high, low] = drawn.ipv4_far();
        let sum = self.sum + drawn.host as u32 + high as u32 + low as u32;
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Order = Order {
        magic: MAGIC,
        lost: 0,
        flows: 1_000_000,
        prefixes: 10_000,
        tunnels: 0,
        sum: 0,
    };

    #[test]
    fn random_numbers_become_all_flows_and_no_others() {
        let order = Order { flows: 1, ..ORDER };
        assert_eq!(order.draw(0), order.draw(u32::MAX));
        let last = ORDER.draw(u32::MAX);
        // Number 999,999.
        assert_eq!(last.host, 2 + 199);
        assert_eq!(last.near_port, 1_024 + 4_999);
        assert_eq!((last.far_port, last.prefix), (1, 9_999));
        assert_eq!(last.far_host, 250);
    }

    #[test]
    fn any_number_of_flows_is_told_apart_by_ports() {
        let order = Order {
            flows: u32::MAX,
            ..ORDER
        };
        let last = order.draw(u32::MAX);
        let number = u32::MAX - 1;
        let rest = u32::from(last.near_port) - 1_024 + (u32::from(last.far_port) - 1) * PORTS;
        assert_eq!(rest * HOSTS + (u32::from(last.host) - 2), number);
    }

    #[test]
    fn prefixes_are_neighbours_of_24_bits() {
        let drawn = Drawn {
            prefix: 0x0102,
            far_host: 7,
            ..ORDER.draw(0)
        };
        assert_eq!(drawn.ipv4_far(), [0x0a41, 0x0207]);
    }

    #[test]
    fn the_checksum_makes_the_header_sum_to_all_ones() {
        let order = Order {
            sum: 0x4500 + 0x0080 + 0x4011 + 0x0a01,
            ..ORDER
        };
        let drawn = order.draw(0x8765_4321);
        let [high, low] = drawn.ipv4_far();
        let words = [drawn.host, high, low, order.ipv4_checksum(drawn)];
        let mut sum = order.sum + words.iter().map(|word| u32::from(*word)).sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(sum, 0xffff);
    }
}
