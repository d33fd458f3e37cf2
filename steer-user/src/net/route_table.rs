//! The kernel's routes in some tables, kept up to date by what it tells of changes. Plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::nexthop::NextHop;

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
}

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

    fn came(&mut self, prefix: IpNet, route: Route, place: Place) -> Noted {
        if !self.tables.contains(&route.table) {
            return Noted::Nothing;
        }
        let routes = self.routes.entry(prefix).or_default();
        let is_rival = |other: &Route| (other.table, other.metric) == (route.table, route.metric);
        // Those of the same metric are next to each other.
        let rivals = if let Some(first) = routes.iter().position(is_rival) {
            let count = routes[first..].iter().take_while(|r| is_rival(r)).count();
            first..first + count
        } else {
            let at = routes
                .partition_point(|other| (other.table, other.metric) < (route.table, route.metric));
            at..at
        };
        if let Some(known) = routes[rivals.clone()]
            .iter_mut()
            .find(|other| is_same(other, &route))
        {
            // What was told before the table was taken is told again; only replacing has had a victim.
            let is_unsure = place == Place::Replaced && rivals.len() > 1;
            let is_changed = *known != route;
            *known = route;
            return if is_unsure {
                Noted::Unsure
            } else {
                changed(is_changed)
            };
        }
        // IPv6 tells of a next hop that joins others by telling them all.
        let grown = routes[rivals.clone()]
            .iter()
            .position(|other| matches!(prefix, IpNet::V6(_)) && leads_further(&route, other));
        // IPv6 replaces a route that may have others beside it only by such a one.
        let is_unlike = |other: &Route| {
            matches!(prefix, IpNet::V6(_)) && has_gateways(other) != has_gateways(&route)
        };
        let in_place = match (place, rivals.len()) {
            (Place::Replaced, 1) if !is_unlike(&routes[rivals.start]) => Some(rivals.start),
            // Which one depends on what else they are.
            (Place::Replaced, 1..) => return Noted::Unsure,
            _ => grown.map(|offset| rivals.start + offset),
        };
        match (in_place, place) {
            (Some(at), _) => routes[at] = route,
            (None, Place::First) => routes.insert(rivals.start, route),
            (None, Place::Last | Place::Replaced) => routes.insert(rivals.end, route),
        }
        Noted::Changed
    }

    fn went(&mut self, prefix: IpNet, route: &Route) -> Noted {
        let Some(routes) = self.routes.get_mut(&prefix) else {
            return Noted::Nothing;
        };
        if let Some(at) = routes.iter().position(|other| is_same(other, route)) {
            routes.remove(at);
            if routes.is_empty() {
                self.routes.remove(&prefix);
            }
            return Noted::Changed;
        }
        // IPv6 tells of a next hop that leaves others.
        let rest = routes
            .iter_mut()
            .find(|other| matches!(prefix, IpNet::V6(_)) && leads_further(other, route));
        if let (Some(rest), Leads::Hops(gone)) = (rest, &route.leads) {
            if let Leads::Hops(hops) = &mut rest.leads {
                for gone in gone {
                    let at = hops.iter().position(|hop| hop.is_by(gone));
                    at.map(|at| hops.remove(at));
                }
            }
            return Noted::Changed;
        }
        let is_rival = |other: &Route| (other.table, other.metric) == (route.table, route.metric);
        // Otherwise it was told before the table was taken.
        if routes.iter().any(is_rival) {
            Noted::Unsure
        } else {
            Noted::Nothing
        }
    }
}

fn changed(is_changed: bool) -> Noted {
    if is_changed {
        Noted::Changed
    } else {
        Noted::Nothing
    }
}

/// Whether both are one route, whatever became of its devices.
fn is_same(one: &Route, other: &Route) -> bool {
    let leads_same = match (&one.leads, &other.leads) {
        (Leads::Hops(one), Leads::Hops(other)) => {
            let key = |hop: &Hop| (hop.ifindex, hop.weight, hop.via);
            one.iter().map(key).eq(other.iter().map(key))
        }
        (one, other) => one == other,
    };
    let key = |route: &Route| (route.table, route.metric, route.protocol);
    leads_same && key(one) == key(other)
}

/// Whether IPv6 takes other next hops beside those of this route (`rt6_qualify_for_ecmp`, `net/ipv6/ip6_fib.h`).
fn has_gateways(route: &Route) -> bool {
    let Leads::Hops(hops) = &route.leads else {
        return false;
    };
    hops.iter().all(|hop| hop.via.is_some())
}

/// Whether a route has the next hops of another one, and more.
fn leads_further(route: &Route, than: &Route) -> bool {
    let key = |route: &Route| (route.table, route.metric);
    let (Leads::Hops(hops), Leads::Hops(fewer)) = (&route.leads, &than.leads) else {
        return false;
    };
    let mut left = hops.clone();
    let holds_all = fewer.iter().all(|hop| {
        let at = left.iter().position(|other| other.is_by(hop));
        at.map(|at| left.swap_remove(at)).is_some()
    });
    key(route) == key(than) && holds_all && !left.is_empty()
}

#[cfg(test)]
mod tests;
