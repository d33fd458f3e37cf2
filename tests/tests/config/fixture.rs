//! What the tests share: a gateway with a configuration file.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
pub(crate) use steer_tests::gateway_test as test;
use steer_tests::lab::wait;
use steer_tests::steerctl::{Gateway, Reader, Running};

/// How long something may take that takes a moment.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A group as a file names it.
pub(crate) struct Group<'a> {
    pub(crate) name: &'a str,
    pub(crate) prefixes: &'a [&'a str],
    pub(crate) tunnels: &'a [(&'a str, u32)],
}

/// A file of these groups; `lan0` is of the first. The tunnels are TUN devices, where nobody answers probes.
pub(crate) fn text(groups: &[Group<'_>]) -> String {
    let mut text = "seed = 7\nprobe = false\n".to_owned();
    for (index, group) in groups.iter().enumerate() {
        let _ = write!(text, "\n[[group]]\nname = {:?}\n", group.name);
        if index == 0 {
            text += "iface = [\"lan0\"]\n";
        }
        let _ = writeln!(text, "prefixes = {:?}", group.prefixes);
        for (name, weight) in group.tunnels {
            let _ = write!(
                text,
                "[[group.tunnel]]\nname = {name:?}\nweight = {weight}\n"
            );
        }
    }
    text
}

/// One group to 10.2.0.0/16 over these tunnels.
pub(crate) fn one_group(tunnels: &[(&str, u32)]) -> String {
    text(&[Group {
        name: "default",
        prefixes: &["10.2.0.0/16"],
        tunnels,
    }])
}

/// A gateway whose configuration is a file.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    file: PathBuf,
}

impl Site {
    /// A gateway with so many tunnels and this file. It forwards by `wg0` what steer leaves to it.
    pub(crate) fn up(name: &str, tunnels: usize, text: &str) -> Result<Self> {
        let gateway = Gateway::up(name, tunnels)?;
        gateway.sysctl("net.ipv4.ip_forward", "1")?;
        if tunnels > 0 {
            gateway.ip(&["route", "add", "10.0.0.0/8", "dev", "wg0"])?;
        }
        let file = gateway.dir().join("steer.toml");
        let site = Self { gateway, file };
        site.write(text)?;
        Ok(site)
    }

    /// The file's name.
    pub(crate) fn file(&self) -> &str {
        self.file.to_str().unwrap_or("?")
    }

    /// Writes another file.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        fs::write(&self.file, text).with_context(|| self.file().to_owned())
    }

    /// What the file says now.
    pub(crate) fn text(&self) -> Result<String> {
        fs::read_to_string(&self.file).with_context(|| self.file().to_owned())
    }

    /// `steerctl run --config FILE ARGS`, ready.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Running> {
        self.gateway
            .run(&[&["--config", self.file()], args].concat())
    }

    /// Readers of `wg0` and so on.
    pub(crate) fn readers(&self, count: usize) -> Result<Vec<Reader>> {
        let open = |k| Reader::open(self.gateway.host(), &format!("wg{k}"));
        (0..count).map(open).collect()
    }
}

/// The sending ports that came through each tunnel.
pub(crate) fn ports(readers: &[Reader]) -> Vec<HashSet<u16>> {
    readers.iter().map(|reader| reader.seen().ports()).collect()
}

/// Waits until so many datagrams came through all tunnels together.
pub(crate) fn arrive(readers: &[Reader], sent: u64) -> Result<()> {
    let count = || readers.iter().map(Reader::count).sum::<usize>();
    let arrived = wait::until(&format!("{sent} datagrams"), SOON, || {
        Ok((u64::try_from(count())? >= sent).then_some(()))
    });
    arrived.with_context(|| format!("{} of {sent} came", count()))
}
