//! `steerctl run` and `steerctl attach`: from an operator's request to steered packets.

use std::{fs::File, io::Read as _, time::Duration};

use steer_common::abi::{AttachKind, Hook, HookKey};

use super::{
    Context, Failure,
    apply::{self, Attacher, HookTargets},
    daemon, print_either, print_line, requirements, state,
};
use crate::{
    cli::{RunArgs, SteerArgs},
    datapath::{
        DatapathError,
        maps::{self, Maps},
        programs::{self, Programs},
    },
    net::Netlink,
    output::{Colour, PlanReport},
    plan::{self, Existing, Plan},
    sys,
};

/// How often the program's diagnostics are shown.
const LOG_PAUSE: Duration = Duration::from_millis(100);

/// `steerctl attach`.
pub(super) async fn attach(context: &Context, args: &SteerArgs) -> Result<(), Failure> {
    if let Some((line, _)) = start(context, args).await? {
        print_line(&line)?;
    }
    Ok(())
}

/// `steerctl run`.
pub(super) async fn run(context: &Context, args: &RunArgs) -> Result<(), Failure> {
    let signals = daemon::Signals::listen()?;
    let Some((line, mut programs)) = start(context, &args.steer).await? else {
        return Ok(());
    };
    start_logger(&mut programs);
    let role = context.pins.become_daemon()?;
    print_line(&line)?;
    daemon::Daemon::new(context.pins.clone(), programs, args.steer.attach, args.keep)?
        .work(signals, role)
        .await
}

/// The program's own diagnostics, which only the object of a debug build has.
fn start_logger(programs: &mut Programs) {
    match aya_log::EbpfLogger::init(programs.ebpf()) {
        Ok(mut logger) => {
            tokio::spawn(async move {
                let mut pause = tokio::time::interval(LOG_PAUSE);
                loop {
                    pause.tick().await;
                    logger.flush();
                }
            });
        }
        Err(error) => log::debug!("no diagnostics from the program: {error}"),
    }
}

/// Starts steering, or goes on with what is pinned. The line says what was done; there is none
/// after a dry run.
async fn start(context: &Context, args: &SteerArgs) -> Result<Option<(String, Programs)>, Failure> {
    requirements::check()??;
    let pins = &context.pins;
    let mode = args.attach;
    let netns = sys::netns_inode()?;
    let netlink = Netlink::connect()?;
    let devices = netlink.devices().await?;
    let _lock = pins.lock()?;

    maps::check_abi(pins)?;
    maps::check_shapes(pins)?;
    let is_unfinished = pins.is_used() && maps::pinned_abi(pins).is_none_or(|abi| abi == 0);
    let adopts = pins.is_used() && !is_unfinished;
    let (existing, hooks) = if adopts {
        let maps = Maps::open(pins)?;
        // Device numbers mean nothing in another namespace.
        if maps.settings()?.netns != netns {
            let dir = pins.path().to_owned();
            return Err(DatapathError::OtherNetns { dir }.into());
        }
        (state::existing(&maps)?, maps.hooks()?)
    } else {
        // What an unfinished start left is ours, too.
        (Existing::default(), apply::hooks_of_any_layout(pins)?)
    };
    let plan = plan::plan(&args.request(), &devices, &existing, sys::memory_bytes()?)?;
    let mut targets = HookTargets::ask(&netlink, hook_devices(&plan), mode).await?;
    refuse_others(context, &netlink, &plan, &hooks).await?;
    if args.dry_run {
        let report = PlanReport::new(&plan, true);
        print_either(context, &report, || report.render(Colour::Off))?;
        return Ok(None);
    }

    for note in &plan.notes {
        eprintln!("steerctl: {note}");
    }
    if is_unfinished {
        log::info!(
            "{}: removing what an unfinished start left",
            pins.path().display()
        );
        for error in apply::remove_everything(pins).await {
            log::warn!("{error}");
        }
        // Its clsact qdiscs went along.
        targets = HookTargets::ask(&netlink, hook_devices(&plan), mode).await?;
    }
    let prepared = pins.prepare()?;
    let seed = match plan.seed {
        Some(seed) => seed,
        None => random_seed()?,
    };
    let mut programs = Programs::load(pins, plan.max_flows, plan.mode)?;
    let mut maps = Maps::open(pins)?;
    let attached = Attacher {
        pins,
        maps: &mut maps,
        programs: &mut programs,
        targets: &mut targets,
        mode,
    }
    .attach_all(&plan);
    let written = attached
        .and_then(|way| apply::write(&mut maps, &plan, seed, netns, &devices).map(|()| way));
    let way = match written {
        Ok(way) => way,
        Err(error) => {
            if adopts {
                apply::remove_new_hooks(pins, &mut maps, &hooks).await?;
            } else {
                for error in apply::remove_everything(pins).await {
                    log::warn!("{error}");
                }
            }
            return Err(error.into());
        }
    };
    apply::detach_others(pins, &mut maps, &plan).await?;
    prepared.keep();
    Ok(Some((format!("ready {}", summary(&plan, way)), programs)))
}

fn hook_devices(plan: &Plan) -> impl Iterator<Item = (&str, u32)> {
    plan.attachments()
        .into_iter()
        .map(|attachment| (attachment.name, attachment.ifindex))
}

/// Refuses devices on which another steer works.
async fn refuse_others(
    context: &Context,
    netlink: &Netlink,
    plan: &Plan,
    hooks: &[(HookKey, Hook)],
) -> Result<(), Failure> {
    let mut ours = programs::pinned_programs(&context.pins);
    ours.extend(hooks.iter().map(|(_, hook)| hook.program_id));
    for attachment in plan.attachments() {
        programs::refuse_other_instance(attachment.name, attachment.kind, &ours)?;
        apply::refuse_foreign_filter(netlink, attachment, hooks).await?;
    }
    Ok(())
}

fn random_seed() -> Result<u64, Failure> {
    let path = "/dev/urandom";
    let mut bytes = [0; 8];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| DatapathError::Io {
            path: path.into(),
            source,
        })?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What is steered where: `default: 10.2.0.0/16 over wg0=1 wg1=1 from lan0 (ingress, tcx)`.
fn summary(plan: &Plan, way: AttachKind) -> String {
    let join = |parts: Vec<String>| parts.join(" ");
    let way = match way {
        AttachKind::Tcx => "tcx",
        AttachKind::Clsact | AttachKind::ClsactOwned => "clsact",
    };
    format!(
        "{}: {} over {} from {} ({}, {way})",
        plan.group,
        join(plan.prefixes.iter().map(ToString::to_string).collect()),
        join(
            plan.tunnels
                .iter()
                .map(|t| format!("{}={}@{}", t.name, t.weight, t.id))
                .collect()
        ),
        join(plan.hooks.iter().map(|hook| hook.name.clone()).collect()),
        plan.mode.name(),
    )
}
