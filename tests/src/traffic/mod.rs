//! Traffic of our own: real TCP and UDP flows whose every message carries the
//! number of its flow and of itself, so that both ends know what is missing.
//!
//! Client and server are threads of this process that live in the lab's
//! namespaces; nothing has to be started or parsed.

mod bulk;
mod burst;
mod clients;
mod datagrams;
mod download;
mod inject;
mod live;
mod live_flow;
mod message;
mod ping;
mod probe;
mod server;
mod transfer;

pub use bulk::Bulk;
pub use burst::{Burst, burst};
pub use datagrams::datagrams;
pub use download::Download;
pub use inject::Injector;
pub use live::{FlowReport, LiveFlows, LiveReport, LiveSpec};
pub use ping::ping;
pub use probe::{CLOSED_PORT, Probe, Prober};
pub use server::{ECHO_PORT, Server};
pub use transfer::{End, Transfer, transfer};

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that no flow of this process had before.
fn new_flow_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A runtime that stays on its thread, and so in the thread's namespace.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
}

/// Lets this process have as many open files as the system allows it.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Too few files show as an error of the socket that did not fit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
