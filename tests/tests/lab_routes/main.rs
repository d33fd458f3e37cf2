//! Groups and prefixes that follow the kernel's routes, under traffic: by hand, by BIRD and by FRR. Real WireGuard,
//! judged by packet sockets on the tunnels.

mod by_hand;
mod daemons;
mod figures;
mod oddities;
mod operator;
mod routes;
mod storms;
