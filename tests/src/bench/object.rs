//! The programs that only the benchmark loads.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};
use nix::net::if_::if_nametoindex;
use steer_common::bench::{DEVICE, FLOWS, FLOWS_SMALL};
use steer_user::datapath::object::BENCH_OBJECT;

use crate::lab::Host;

/// What the programs are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Number of the device that is redirected to.
    pub device: u32,
    /// Room for so many flows.
    pub flows: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: 0,
            flows: 1,
        }
    }
}

/// Loads the object.
pub(super) fn load(settings: Settings) -> Result<Ebpf> {
    let Settings { device, flows } = settings;
    let mut loader = EbpfLoader::new();
    loader.override_global(DEVICE, &device, true);
    loader.map_max_entries(FLOWS, flows);
    loader.map_max_entries(FLOWS_SMALL, flows);
    loader.load(BENCH_OBJECT).context("the benchmark's object")
}

/// Attaches a program to the ingress of some devices, for as long as what is returned lives. What
/// it redirects goes to the device `to`; it has room for so many flows.
pub(super) fn attach(
    host: &Host,
    name: &str,
    devices: &[&str],
    to: &str,
    flows: u32,
) -> Result<Ebpf> {
    let device = host.within(|| if_nametoindex(to).with_context(|| format!("device {to}")))?;
    let mut object = load(Settings { device, flows })?;
    attach_to(&mut object, host, name, devices, TcAttachType::Ingress)?;
    Ok(object)
}

/// Attaches one more program of an object.
pub(super) fn attach_to(
    object: &mut Ebpf,
    host: &Host,
    name: &str,
    devices: &[&str],
    direction: TcAttachType,
) -> Result<()> {
    let program: &mut SchedClassifier = object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?
        .try_into()?;
    program.load()?;
    host.within(|| {
        for device in devices {
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            program
                .attach_with_options(device, direction, options)
                .with_context(|| format!("{name} on {device}"))?;
        }
        Ok(())
    })
}
