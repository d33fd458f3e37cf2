//! `steerctl` as a user and a script see it: words, exit status, and what it
//! leaves behind, on a gateway of a namespace and a few TUN devices.

mod fixture;

mod changes;
mod daemon;
mod devices;
mod drain;
mod events;
mod firewall;
mod hooks;
mod hop_weights;
mod idle;
mod json;
mod life;
mod pins;
mod rebalance;
mod refusals;
mod routing;
mod tunnels;
mod usage;
