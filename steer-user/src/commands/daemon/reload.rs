//! Reading the configuration again: all of it becomes so, or nothing does.

use steer_common::abi::{AttachKind, Cause, Event, EventKind};

use crate::{
    commands::{
        Failure,
        carry::{carry_out::CarryOut, difference, outlook::Outlook, wanted::Wanted},
        daemon::{Daemon, manager},
        routes::RouteWatch,
        verbs::start::summary,
    },
    datapath::programs::Programs,
    output::DifferenceReport,
    plan::Difference,
};

/// What a reload did.
struct Reloaded {
    difference: DifferenceReport,
    /// What is steered where now.
    summary: String,
}

impl Daemon {
    /// Reads the configuration file again and does what is new in it; what is wrong is logged, and
    /// nothing is changed then.
    pub(in crate::commands) async fn reload(&mut self) {
        manager::reloading();
        match self.try_reload().await {
            Ok(Reloaded {
                difference,
                summary,
            }) => {
                for entry in &difference.entries {
                    log::info!("{}", entry.text);
                }
                log::info!(
                    "configuration read again: {} changes, {} live flows moved",
                    difference.entries.len(),
                    difference.flows_moved
                );
                manager::ready(&summary);
                self.note(EventKind::Reloaded, Cause::Config, difference.entries.len());
            }
            Err(failure) => {
                log::error!("configuration refused, nothing is changed: {failure}");
                if let Some(hint) = failure.hint() {
                    log::error!("hint: {hint}");
                }
                manager::ready(&format!("configuration refused: {failure}"));
                self.note(EventKind::ReloadRefused, Cause::Config, 0);
            }
        }
    }

    async fn try_reload(&mut self) -> Result<Reloaded, Failure> {
        let Some(file) = &self.file else {
            return Err(Failure::new(
                "there is no configuration file",
                "start with steerctl run --config FILE",
            ));
        };
        let wanted = Wanted::of_file(file, &self.args.steer, Some(&self.args.probe))?;
        let _lock = self.lock()?;
        if !self.is_current()? {
            return Err(Failure::new(
                "another steerctl took over",
                "reload that one",
            ));
        }
        let attach = self.args.steer.attach;
        let mut outlook = Outlook::of(&self.pins, &self.netlink, &wanted, attach).await?;
        let found = Difference::of(&outlook.existing, &outlook.plan);
        let difference = difference::count(&self.maps, &found)?;
        for note in &outlook.plan.notes {
            log::info!("{note}");
        }
        let attached = outlook.hooks.first();
        let mut way = attached.map_or(AttachKind::Tcx, |(_, hook)| hook.attach);
        if !found.is_empty() {
            let mode = outlook.plan.mode;
            // Loading takes a while; most changes need no other programs.
            let mut others = if mode == self.programs.mode() {
                None
            } else {
                Some(Programs::load(&self.pins, outlook.plan.max_flows, mode)?)
            };
            let carrier = CarryOut {
                pins: &self.pins,
                netlink: &self.netlink,
                maps: &mut self.maps,
                programs: others.as_mut().unwrap_or(&mut self.programs),
                mode: attach,
                is_watched: true,
                daemon: None,
                cause: Cause::Config,
            };
            way = carrier.carry_out(&mut outlook).await?;
            if let Some(others) = others {
                self.programs = others;
            }
        }
        self.health.probe(wanted.probes.unwrap_or_default());
        self.health.follow(outlook.devices);
        self.routes = RouteWatch::new(outlook.follower)?;
        self.config = wanted.config;
        self.order = outlook.plan.order();
        Ok(Reloaded {
            difference,
            summary: summary(&outlook.plan, way),
        })
    }

    /// Writes down that something happened to this process.
    pub(in crate::commands) fn note(&mut self, kind: EventKind, cause: Cause, count: usize) {
        let event = Event {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            ..Event::new(kind, cause)
        };
        let noted = self.lock().and_then(|_lock| self.maps.push_event(&event));
        if let Err(error) = noted {
            log::warn!("noting an event: {error}");
        }
    }
}
