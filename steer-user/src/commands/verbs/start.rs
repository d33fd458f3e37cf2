//! `steerctl run` and `steerctl attach`: from what is asked for to steered packets.

use std::time::Duration;

use steer_common::abi::{AttachKind, HookOrder};

use crate::{
    cli::{ProbeArgs, RunArgs, SteerArgs},
    commands::{
        Context, Failure,
        carry::{carry_out::CarryOut, difference, outlook::Outlook, wanted::Wanted},
        daemon,
        daemon::manager,
        print_either, print_line, requirements,
        routes::Follower,
    },
    datapath::{maps::Maps, programs::Programs},
    net::Netlink,
    output::{Colour, PlanReport},
    plan::{GroupPlan, Plan, health::Probes},
    sys,
};

/// How often the program's diagnostics are shown.
const LOG_PAUSE: Duration = Duration::from_millis(100);

/// `steerctl attach`.
pub(in crate::commands) async fn attach(
    context: &Context,
    args: &SteerArgs,
) -> Result<(), Failure> {
    if let Some(started) = start(context, args, None).await? {
        print_line(&started.line)?;
    }
    Ok(())
}

/// `steerctl run`.
pub(in crate::commands) async fn run(context: &Context, args: &RunArgs) -> Result<(), Failure> {
    let signals = daemon::Signals::listen()?;
    let Some(mut started) = start(context, &args.steer, Some(&args.probe)).await? else {
        return Ok(());
    };
    start_logger(&mut started.programs);
    let role = context.pins.become_daemon()?;
    let line = std::mem::take(&mut started.line);
    let daemon = daemon::Daemon::new(context.pins.clone(), args, started)?;
    print_line(&line)?;
    manager::ready(&line);
    // It is large.
    Box::pin(daemon.work(signals, role)).await
}

/// What a start leaves to whoever stays.
pub(in crate::commands) struct Started {
    /// What was done, for the operator.
    line: String,
    /// What the maps call the daemon that is to be; 0 if there will be none.
    pub(in crate::commands) daemon: u64,
    pub(in crate::commands) programs: Programs,
    pub(in crate::commands) order: HookOrder,
    pub(in crate::commands) wanted: Wanted,
    /// The routes as they were followed.
    pub(in crate::commands) follower: Follower,
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

/// Starts steering, or goes on with what is pinned; `None` after a dry run. `probe` says how the caller will
/// probe the tunnels, if it will.
async fn start(
    context: &Context,
    args: &SteerArgs,
    probe: Option<&ProbeArgs>,
) -> Result<Option<Started>, Failure> {
    // Whoever may do nothing is told that first, whatever else is wrong.
    requirements::check()??;
    let wanted = Wanted::of(args, probe)?;
    requirements::check_start(wanted.probes.as_ref().is_some_and(Probes::any))??;
    let (pins, mode) = (&context.pins, args.attach);
    let netlink = Netlink::connect()?;
    let lock = pins.lock()?;
    let mut outlook = Outlook::of(pins, &netlink, &wanted, mode).await?;
    if args.dry_run {
        let difference = difference::report(pins, &outlook)?;
        // Whoever reads it takes his time.
        drop(lock);
        let report = PlanReport::new(&outlook.plan, difference, true);
        print_either(context, &report, || report.render(Colour::Off))?;
        return Ok(None);
    }

    outlook.remove_remains(pins, &netlink, mode).await?;
    let prepared = pins.prepare()?;
    let mut programs = Programs::load(pins, outlook.plan.max_flows, outlook.plan.mode)?;
    let mut maps = Maps::open(pins)?;
    let daemon = match probe {
        Some(_) => Some(sys::random_number()?),
        None => None,
    };
    let carrier = CarryOut {
        pins,
        netlink: &netlink,
        maps: &mut maps,
        programs: &mut programs,
        mode,
        is_watched: wanted.probes.is_some() || pins.daemon().is_some(),
        daemon,
        cause: wanted.cause(),
    };
    let way = carrier.carry_out(&mut outlook).await?;
    prepared.keep();
    let plan = outlook.plan;
    for note in &plan.notes {
        eprintln!("steerctl: {note}");
    }
    Ok(Some(Started {
        line: format!("ready {}", summary(&plan, way)),
        daemon: daemon.unwrap_or(0),
        programs,
        order: plan.order(),
        wanted,
        follower: outlook.follower,
    }))
}

/// What is steered where: `default: 10.2.0.0/16 over wg0=1@0 wg1=1@1 from lan0 (ingress, tcx)`.
pub(in crate::commands) fn summary(plan: &Plan, way: AttachKind) -> String {
    let way = match way {
        AttachKind::Tcx => "tcx",
        AttachKind::Clsact | AttachKind::ClsactOwned => "clsact",
    };
    let lan = plan.lan_devices();
    let lan: Vec<&str> = lan.iter().map(|(hook, _)| hook.name.as_str()).collect();
    let from = match lan[..] {
        [] => String::new(),
        _ => format!(" from {}", lan.join(" ")),
    };
    let groups: Vec<String> = plan.groups.iter().map(group_summary).collect();
    format!("{}{from} ({}, {way})", groups.join("; "), plan.mode.name())
}

fn group_summary(group: &GroupPlan) -> String {
    let prefixes: Vec<String> = group.prefixes.iter().map(ToString::to_string).collect();
    let what = if group.follows_routes {
        "the kernel's routes".into()
    } else {
        prefixes.join(" ")
    };
    let tunnels = group.tunnels.iter();
    let tunnels: Vec<String> = tunnels
        .map(|tunnel| format!("{}={}@{}", tunnel.name, tunnel.weight, tunnel.id))
        .collect();
    format!("{}: {what} over {}", group.name, tunnels.join(" "))
}
