//! Any sequence of packets and changes keeps every promise about flows and tunnels.

use std::sync::LazyLock;

use steer_common::{
    abi::{Admin, GroupId, Health, MSS_CLAMP_MTU, MoveRecord},
    moves,
    parse::tcp_flags,
};

use super::{
    input::Input,
    packets::{error_about, flags, fresh, reply},
    promises::{self, Before},
};
use crate::packets::{
    build::{self, Arrival},
    host::HostTables,
    programs::{Ran, STEERED, Seen, arrive},
    recipe::{Fragment, Hook, Recipe},
    world::{DEVICES, GONE, GROUP, MORE_OF_1, MTU, ONLY_0, ONLY_1, World, table, tunnel},
};

/// Few, so that the table is full at once.
pub(super) const ROOM: usize = 6;
/// Packets that later ones can refer to.
const REMEMBERED: usize = 4;
/// Changes and packets of one input.
const STEPS: usize = 64;
/// Numbers of the tunnels' devices.
const IFINDEXES: [u32; DEVICES.len()] = [11, 12, 13, 14, 15, 16];
/// A group of another home.
const SMALL_GROUP: GroupId = 6;
const SECOND_NS: u64 = 1_000_000_000;

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(IFINDEXES));

/// Each byte chooses the next step, those behind it its details.
pub fn decide(input: &[u8]) {
    let mut input = Input::new(input);
    let mut gateway = Gateway {
        tables: HostTables::new(&WORLD, ROOM),
        recent: Vec::new(),
    };
    gateway.tables.now_ns = 100_000 * SECOND_NS;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(16) {
            0..10 => gateway.packet(&mut input),
            _ => gateway.change(&mut input),
        }
    }
}

struct Gateway {
    tables: HostTables,
    recent: Vec<Recipe>,
}

impl Gateway {
    fn change(&mut self, input: &mut Input<'_>) {
        let at = input.pick(&[0, 1, 2, 3, 4, 5]);
        let tables = &mut self.tables;
        match input.below(10) {
            0 => tables.settings.epoch += 1,
            8 => {
                let routed = input.pick(&[0, 1, 2, 3]);
                let group = input.pick(&[GROUP, ONLY_0, ONLY_1, MORE_OF_1, SMALL_GROUP]);
                tables.prefixes[routed].2 = group;
                tables.settings.epoch += 1;
            }
            9 => self.rebalance(input),
            1 => {
                let members = [(0, input.pick(&[1, 0, 3])), (1, input.pick(&[1, 0, 3]))];
                tables.tables.insert(0, table(&members));
            }
            2 => {
                let secs = input.pick(&[1, 29, 31, 59, 61, 299, 301, 7_439, 7_441]);
                tables.now_ns += secs * SECOND_NS;
            }
            3 => {
                tables.settings.mss_clamp = input.pick(&[0, MSS_CLAMP_MTU, 536, 1_300]);
                tables.settings.mark_mask = input.pick(&[0, 0x00ff_0000, 0xff00_0000]);
            }
            4 => {
                // Nobody tells the maps.
                match input.pick(&[0, MTU, 1_280, 576]) {
                    0 => tables.devices.remove(&IFINDEXES[at]),
                    mtu => tables.devices.insert(IFINDEXES[at], mtu),
                };
            }
            _ => {
                let ifindex = input.pick(&[IFINDEXES[at], IFINDEXES[at], 0, GONE]);
                let admin =
                    input.pick(&[Admin::Active, Admin::Drain, Admin::Disabled, Admin::Absent]);
                let health = input.pick(&[Health::Up, Health::Down, Health::Unknown]);
                tables.tunnels[at] = Some(tunnel(ifindex, admin, health));
            }
        }
    }

    /// Userspace asks for one flow after another to be moved.
    fn rebalance(&mut self, input: &mut Input<'_>) {
        let before = Before::of(&self.tables);
        let to = u32::from(input.below(8));
        for key in self.tables.flow_keys() {
            let from = u32::from(input.below(8));
            let moved = moves::rebalance(&self.tables, &MoveRecord { key, from, to });
            promises::check_move(&self.tables, &before, &key, (from, to), moved);
        }
    }

    fn packet(&mut self, input: &mut Input<'_>) {
        let recipe = self.recipe(input);
        let mut arrival = build::arrival(&recipe);
        arrival.mark = input.pick(&[0, 0, u32::MAX]);
        arrival.marker = input.pick(&[0, 0, 0, STEERED, 1]);
        let before = Before::of(&self.tables);
        let ran = arrive(&self.tables, &arrival);
        promises::check(&self.tables, &before, &arrival, &ran);
        self.check_again(&arrival, &ran);
    }

    /// The same packet takes the same way, unless it ended the flow that it opens.
    fn check_again(&self, arrival: &Arrival, ran: &Ran) {
        let (Seen::Sent(exit), Ok(parsed)) = (ran.seen, ran.parsed) else {
            return;
        };
        if parsed.tcp_flags & tcp_flags::SYN != 0 {
            return;
        }
        let again = arrive(&self.tables, arrival);
        assert_eq!(again.seen, Seen::Sent(exit), "once more");
        assert_eq!(again.bytes, ran.bytes);
    }

    fn recipe(&mut self, input: &mut Input<'_>) -> Recipe {
        let hook = input.pick(&Hook::ALL);
        let earlier = self.recent.get(usize::from(input.byte()));
        match (earlier, input.below(4)) {
            (None, _) => {
                let recipe = fresh(input, hook);
                if self.recent.len() == REMEMBERED {
                    self.recent.remove(0);
                }
                self.recent.push(recipe.clone());
                recipe
            }
            (Some(earlier), 0) => Recipe {
                fragment: Some(Fragment {
                    offset: 8,
                    more: input.one_in(2),
                    df: false,
                }),
                ..earlier.clone()
            },
            (Some(earlier), 1) => error_about(input, hook, earlier),
            (Some(earlier), 2) => reply(hook, earlier),
            (Some(earlier), _) => Recipe {
                flags: flags(input),
                device: Some(input.below(2)),
                ..earlier.clone()
            },
        }
    }
}
