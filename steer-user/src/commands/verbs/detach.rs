//! `steerctl detach`: removing everything that steer put on this machine.

use steer_common::abi::Cause;

use crate::{
    commands::{
        Context, Failure,
        carry::journal,
        owned::{hooks, routing, sysctls},
        print_either,
        verbs::show,
    },
    datapath::{
        DatapathError,
        maps::{self, Maps},
        pins::PinDir,
    },
    net::Netlink,
    output::DetachReport,
    sys,
};

/// `steerctl detach`.
pub(in crate::commands) async fn detach(context: &Context, dry_run: bool) -> Result<(), Failure> {
    crate::commands::requirements::check()??;
    let pins = &context.pins;
    refuse_other_netns(pins)?;
    // Before the lock: a daemon that waits for it could not step back.
    if !dry_run && pins.is_used() {
        pins.dismiss_daemon()?;
    }
    let lock = pins.lock()?;
    refuse_other_netns(pins)?;
    let mut report = DetachReport {
        pin_dir: pins.path().display().to_string(),
        hooks: Vec::new(),
        rules: 0,
        sysctls: Vec::new(),
        flows: 0,
        is_remains: pins.has_remains(),
        dry_run,
    };
    if pins.is_used() {
        // Pins of another layout are removed all the same, only not described.
        if let Ok(maps) = Maps::open(pins) {
            let netlink = Netlink::connect()?;
            report.hooks = show::hook_reports(pins, &maps, &netlink, None).await?;
            report.rules = routing::rules(&netlink, &maps).await?;
            report.sysctls = sysctls::changed(&maps)?;
            maps.for_each_flow(|_, _| report.flows += 1)?;
        }
    }
    if !dry_run && pins.has_remains() {
        report_first(remove_everything(pins, Cause::Operator).await)?;
    }
    drop(lock);
    print_either(context, &report, || report.render())
}

/// Filters, rules, routes and sysctls can only be removed in their own namespace. One that is gone took them
/// along.
fn refuse_other_netns(pins: &PinDir) -> Result<(), Failure> {
    let Ok(maps) = Maps::open(pins) else {
        return Ok(());
    };
    let netns = maps.settings()?.netns;
    if netns != sys::netns_inode()? && sys::has_netns(netns) {
        let dir = pins.path().to_owned();
        return Err(DatapathError::OtherNetns { dir }.into());
    }
    Ok(())
}

fn report_first(errors: Vec<Failure>) -> Result<(), Failure> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else {
        return Ok(());
    };
    for error in errors {
        log::error!("{error}");
    }
    Err(first)
}

/// Detaches every hook, removes rules, routes and pins, and restores sysctls. Errors are collected,
/// so that one does not keep the rest.
pub(in crate::commands) async fn remove_everything(pins: &PinDir, cause: Cause) -> Vec<Failure> {
    let mut errors = Vec::new();
    let maps = maps_of_any_layout(pins);
    let is_whole = matches!(maps, Ok(Some(_)));
    match maps {
        Ok(Some(mut maps)) => {
            errors.extend(remove_hooks(pins, &mut maps, cause).await);
            // Packets are marked until here. If this fails, the pins tell the next one what is left.
            let left = restore_machine(&mut maps).await;
            if !left.is_empty() {
                errors.extend(left);
                return errors;
            }
        }
        Ok(None) => {
            for (key, hook) in Maps::pinned_hooks(pins).unwrap_or_default() {
                errors.extend(hooks::remove(pins, key, &hook).await.err());
            }
        }
        Err(error) => errors.push(error.into()),
    }
    // Filters are the only hooks that do not go with their pins, by which alone they can be told.
    if let Err(error) = hooks::remove_filters_of_maps(pins).await {
        if !is_whole {
            errors.push(error);
            return errors;
        }
        log::debug!("{error}");
    }
    errors.extend(pins.remove().into_iter().map(Failure::from));
    errors
}

async fn remove_hooks(pins: &PinDir, maps: &mut Maps, cause: Cause) -> Vec<Failure> {
    let mut errors = Vec::new();
    match maps.hooks() {
        Ok(known) => {
            for (key, hook) in &known {
                errors.extend(hooks::remove(pins, *key, hook).await.err());
            }
            // Who follows the events reads on after the pins are gone.
            let told = journal::record_no_hooks(maps, &known, cause);
            errors.extend(told.err().map(Failure::from));
        }
        Err(error) => errors.push(error.into()),
    }
    errors
}

/// Removes rules and routes, and restores sysctls.
async fn restore_machine(maps: &mut Maps) -> Vec<Failure> {
    let mut errors = Vec::new();
    let removed = async {
        let settings = maps.settings()?;
        // What another namespace has is not what these numbers mean here.
        if settings.netns != sys::netns_inode()? {
            return Ok(false);
        }
        if settings.routing_slot != 0 {
            routing::remove(&Netlink::connect()?, settings.routing_slot).await?;
        }
        Ok(true)
    };
    match removed.await {
        Ok(false) => return errors,
        Ok(true) => {}
        Err(error) => errors.push(error),
    }
    errors.extend(sysctls::restore_all(maps));
    errors
}

/// What these pins know. Another layout's TCX hooks go with their pins, and its filters are found by their
/// programs' maps; its rules cannot be known.
pub(in crate::commands) fn maps_of_any_layout(
    pins: &PinDir,
) -> Result<Option<Maps>, DatapathError> {
    if maps::check_abi(pins).is_err() || maps::check_shapes(pins).is_err() {
        log::warn!(
            "{}: of another layout; only its programs and pins are removed",
            pins.path().display()
        );
        return Ok(None);
    }
    match Maps::open(pins) {
        Ok(maps) => Ok(Some(maps)),
        // A start was killed before it had made all maps, or somebody removed some.
        Err(DatapathError::PinsMissing { .. } | DatapathError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
