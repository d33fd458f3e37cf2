//! The kernel's routes in some tables, kept up to date by what it tells of changes. Plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::nexthop::NextHop;

mod spot;

use spot::{is_same, leave, may_hide_others, rivals, spot_in_v4, spot_in_v6};

/// The table of routes without another one (`RT_TABLE_MAIN` of `linux/rtnetlink.h`).
pub const ROUTE_TABLE_MAIN: u32 = 254;

/// A route to a prefix, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its table.
    pub table: u32,
    /// Its metric: of several to one prefix the smallest counts.
    pub metric: u32,
    /// Who made it (`RTPROT_…`).
    pub protocol: u8,
    /// Where it leads.
    pub leads: Leads,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Out by these devices, in the order of their numbers.
    Hops(Vec<Hop>),
    /// Where this next-hop object does.
    Object(u32),
    /// Nowhere, or on in a way that only the kernel can go: dropped, refused, local, encapsulated.
    Elsewhere,
}

/// A next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Its device.
    pub ifindex: u32,
    /// Its weight among the others, from 1.
    pub weight: u32,
    /// The address that it leads by: several may lead out by one device.
    pub via: Option<IpAddr>,
    /// Its device is down, so that the kernel does not use it.
    pub is_dead: bool,
}

impl Hop {
    /// Whether both lead the same way, whatever their weights.
    fn is_by(&self, other: &Self) -> bool {
        (self.ifindex, self.via) == (other.ifindex, other.via)
    }
}

/// Something that the kernel told of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteNotice {
    /// A route came.
    Came {
        /// Where to.
        prefix: IpNet,
        /// The route.
        route: Route,
        /// In which place among others to that prefix.
        place: Place,
    },
    /// A route went, or one next hop of it.
    Went {
        /// Where to.
        prefix: IpNet,
        /// The route, or what is gone of it.
        route: Route,
    },
    /// A next-hop object came, or changed.
    ObjectCame(NextHop),
    /// A next-hop object went, and all routes that use it.
    ObjectWent(u32),
    /// Something could not be told; take a new table.
    Lost,
}

/// Where a new route stands among those of the same metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There is no other.
    Alone,
    /// Before them.
    First,
    /// After them.
    Last,
    /// In the place of one.
    Replaced,
}

/// What a notice did to a [`RouteTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    /// Nothing.
    Nothing,
    /// It changed something.
    Changed,
    /// The table may differ from the kernel's now; take a new one.
    Unsure,
}

/// The routes of some tables, and all next-hop objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    tables: Vec<u32>,
    routes: BTreeMap<IpNet, Vec<Route>>,
    objects: BTreeMap<u32, NextHop>,
    /// Where there are or were several routes. Those that lie between the next hops of another one are not in
    /// the kernel's listing of IPv6 (`fib6_dump_node`, `net/ipv6/ip6_fib.c`).
    mixed: BTreeSet<Key>,
}

/// A prefix, a table and a metric.
type Key = (IpNet, u32, u32);

impl RouteTable {
    /// An empty table that takes the routes of these tables.
    pub fn new(tables: impl Into<Vec<u32>>) -> Self {
        Self {
            tables: tables.into(),
            ..Self::default()
        }
    }

    /// The tables whose routes it takes.
    pub fn tables(&self) -> &[u32] {
        &self.tables
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// All prefixes that have a route, a prefix before those inside it, and their routes. Of those of one
    /// table the kernel's choice comes first.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &[Route])> {
        self.routes
            .iter()
            .map(|(prefix, routes)| (*prefix, routes.as_slice()))
    }

    /// The next hops of a route that the kernel uses; `None` when it leads elsewhere.
    pub fn hops(&self, route: &Route) -> Option<Vec<Hop>> {
        let mut hops = match &route.leads {
            Leads::Elsewhere => return None,
            Leads::Hops(hops) => hops.clone(),
            // The kernel names an object before a route that uses it.
            Leads::Object(id) => self.object_hops(self.objects.get(id)?)?,
        };
        hops.retain(|hop| !hop.is_dead);
        Some(hops)
    }

    fn object_hops(&self, object: &NextHop) -> Option<Vec<Hop>> {
        let hop = |object: &NextHop, weight| {
            let ifindex = object.device.filter(|_| !object.is_wrapped)?;
            Some(Hop {
                ifindex,
                weight,
                via: None,
                is_dead: object.is_dead,
            })
        };
        if object.members.is_empty() {
            return Some(vec![hop(object, 1)?]);
        }
        let members = object.members.iter();
        members
            .map(|(id, weight)| hop(self.objects.get(id)?, *weight))
            .collect()
    }

    /// Takes note of a change.
    pub fn note(&mut self, notice: RouteNotice) -> Noted {
        match notice {
            RouteNotice::Came {
                prefix,
                route,
                place,
            } => self.came(prefix, route, place),
            RouteNotice::Went { prefix, route } => self.went(prefix, &route),
            RouteNotice::ObjectCame(object) => {
                let before = self.objects.insert(object.id, object.clone());
                changed(before != Some(object))
            }
            RouteNotice::ObjectWent(id) => {
                // The kernel tells only of the object (`__remove_nexthop_fib`, net/ipv4/nexthop.c).
                self.routes.retain(|_, routes| {
                    routes.retain(|route| route.leads != Leads::Object(id));
                    !routes.is_empty()
                });
                changed(self.objects.remove(&id).is_some())
            }
            RouteNotice::Lost => Noted::Unsure,
        }
    }

    /// Adds a route of a listing. Of those of one table and metric the kernel lists its choice first.
    pub(super) fn add_listed(&mut self, prefix: IpNet, route: Route) {
        let routes = self.routes.entry(prefix).or_default();
        let at = rivals(routes, &route).end;
        routes.insert(at, route);
    }

    /// Takes a new listing, and keeps in mind where it may not show all, or what was told before it may be
    /// taken for something else.
    pub fn renew(&mut self, listed: Self) {
        let before = std::mem::replace(self, listed);
        let key = |prefix: &IpNet, route: &Route| (*prefix, route.table, route.metric);
        let may_hide = |mixed: &&Key| {
            let mut routes = self.routes.get(&mixed.0).into_iter().flatten();
            routes.any(|route| key(&mixed.0, route) == **mixed && may_hide_others(&mixed.0, route))
        };
        let hiding = before.mixed.iter().filter(may_hide).copied();
        let several = before.routes.iter().flat_map(|(prefix, routes)| {
            let keys = routes.iter().map(|route| key(prefix, route));
            let pairs = keys.clone().zip(keys.skip(1));
            pairs.filter(|(one, next)| one == next).map(|(one, _)| one)
        });
        self.mixed = hiding.chain(several).collect();
    }

    /// Whether this was told of something that lets a listing at that time miss other routes: after an IPv6
    /// route went and another one came the kernel goes on in a wrong place, and does not say so
    /// (`fib6_dump_table`, `net/ipv6/ip6_fib.c`).
    pub fn spoils_listing(&self, notice: &RouteNotice) -> bool {
        match notice {
            RouteNotice::Went { prefix, route } => {
                prefix.addr().is_ipv6() && self.tables.contains(&route.table)
            }
            RouteNotice::ObjectWent(_) => true,
            _ => false,
        }
    }

    /// The same of a listing that may miss IPv6 routes: what it does not have stays as it was known. What
    /// went meanwhile is to be noted after this.
    pub fn renew_in_part(&mut self, listed: Self) {
        let known = self.routes.clone();
        self.renew(listed);
        for (prefix, routes) in known.into_iter().filter(|(p, _)| p.addr().is_ipv6()) {
            let listed = self.routes.get(&prefix).into_iter().flatten();
            let tables: Vec<u32> = listed.map(|route| route.table).collect();
            for route in routes {
                if !tables.contains(&route.table) {
                    self.add_listed(prefix, route);
                }
            }
        }
    }

    fn came(&mut self, prefix: IpNet, route: Route, place: Place) -> Noted {
        if !self.tables.contains(&route.table) {
            return Noted::Nothing;
        }
        let key = (prefix, route.table, route.metric);
        let routes = self.routes.entry(prefix).or_default();
        let rivals = rivals(routes, &route);
        let others = &routes[rivals.clone()];
        let (spot, is_sure) = match (place, prefix) {
            (Place::Alone, _) => (0..others.len(), true),
            (_, IpNet::V4(_)) => spot_in_v4(others, &route, place),
            (_, IpNet::V6(_)) => spot_in_v6(others, &route, place),
        };
        let is_change = others[spot.clone()] != [route.clone()];
        let at = rivals.start + spot.start..rivals.start + spot.end;
        routes.splice(at, [route]);
        if place == Place::Alone {
            self.mixed.remove(&key);
        } else if !is_sure {
            self.mixed.insert(key);
        }
        if is_sure && !self.mixed.contains(&key) {
            changed(is_change)
        } else {
            Noted::Unsure
        }
    }

    fn went(&mut self, prefix: IpNet, route: &Route) -> Noted {
        if !self.tables.contains(&route.table) {
            return Noted::Nothing;
        }
        let key = (prefix, route.table, route.metric);
        let mut nobody = Vec::new();
        let routes = self.routes.get_mut(&prefix).unwrap_or(&mut nobody);
        let rivals = rivals(routes, route);
        let same = rivals.clone().find(|at| is_same(&routes[*at], route));
        let noted = match same {
            None if rivals.is_empty() && !self.mixed.contains(&key) => Noted::Nothing,
            None => {
                if prefix.addr().is_ipv6() {
                    leave(&mut routes[rivals], route);
                }
                Noted::Unsure
            }
            Some(at) => {
                routes.remove(at);
                if rivals.len() == 1 && !self.mixed.contains(&key) {
                    Noted::Changed
                } else {
                    Noted::Unsure
                }
            }
        };
        if routes.is_empty() {
            self.routes.remove(&prefix);
        }
        noted
    }
}

fn changed(is_changed: bool) -> Noted {
    if is_changed {
        Noted::Changed
    } else {
        Noted::Nothing
    }
}

#[cfg(test)]
mod tests;
