//! `steerctl run` and `steerctl attach`: from an operator's request to steered packets.

use std::{fs::File, io::Read as _, time::Duration};

use steer_common::abi::{AttachKind, Hook, HookKey, HookOrder, Settings};

use super::{
    Context, Failure, apply, daemon, detach,
    hooks::{self, Attacher, HookTargets},
    machine, print_either, print_line, requirements,
    routes::{Follower, Follows, RouteWatch},
    routing,
    state::{self, KnownTunnel},
    sysctls,
};
use crate::{
    cli::{RunArgs, SteerArgs},
    datapath::{
        DatapathError,
        maps::{self, Maps},
        pins::PinDir,
        programs::{self, Programs},
    },
    net::{Devices, Netlink, RouteNames},
    output::{Colour, PlanReport},
    plan::{self, Existing, Plan},
    sys,
};

/// How often the program's diagnostics are shown.
const LOG_PAUSE: Duration = Duration::from_millis(100);

/// `steerctl attach`.
pub(super) async fn attach(context: &Context, args: &SteerArgs) -> Result<(), Failure> {
    if let Some(started) = start(context, args).await? {
        print_line(&started.line)?;
    }
    Ok(())
}

/// `steerctl run`.
pub(super) async fn run(context: &Context, args: &RunArgs) -> Result<(), Failure> {
    let signals = daemon::Signals::listen()?;
    let Some(Started {
        line,
        mut programs,
        order,
        follower,
    }) = start(context, &args.steer).await?
    else {
        return Ok(());
    };
    start_logger(&mut programs);
    let role = context.pins.become_daemon()?;
    print_line(&line)?;
    let (pins, mode) = (context.pins.clone(), args.steer.attach);
    let routes = RouteWatch::new(follower)?;
    daemon::Daemon::new(pins, programs, mode, order, args.keep, routes)?
        .work(signals, role)
        .await
}

/// What a start leaves to whoever stays.
struct Started {
    /// What was done, for the operator.
    line: String,
    programs: Programs,
    order: HookOrder,
    /// The routes as they were followed.
    follower: Follower,
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

/// Starts steering, or goes on with what is pinned; `None` after a dry run.
async fn start(context: &Context, args: &SteerArgs) -> Result<Option<Started>, Failure> {
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
    let (existing, hooks_before) = known(pins, adopts, netns)?;
    let mut follower = Follower::new(follows(args)?);
    follower.read(&netlink).await?;
    let machine = machine::ask(&netlink, &devices).await?;
    let mut plan = plan::plan(&args.request(), &machine, &existing)?;
    plan.notes.extend(follower.preview(&plan, &existing));
    let forwarding = machine::forwarding(&netlink, &plan).await?;
    plan.check_forwarding(&forwarding, &devices)?;
    let mut targets = HookTargets::ask(&netlink, hook_devices(&plan), mode).await?;
    refuse_others(context, &netlink, &plan, &hooks_before).await?;
    if args.dry_run {
        let report = PlanReport::new(&plan, true);
        print_either(context, &report, || report.render(Colour::Off))?;
        return Ok(None);
    }

    if is_unfinished {
        log::info!(
            "{}: removing what an unfinished start left",
            pins.path().display()
        );
        for error in detach::remove_everything(pins).await {
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
    let before = Before {
        settings: maps.settings()?,
        hooks: hooks_before,
        tunnels: state::tunnels(&maps)?,
    };
    let mut attacher = Attacher {
        pins,
        maps: &mut maps,
        programs: &mut programs,
        targets: &mut targets,
        mode,
    };
    let done = bring_about(&mut attacher, &netlink, &plan, seed, netns, &devices).await;
    // Last: it is here that packets begin to be steered by routes.
    let done = done.and_then(|way| {
        follower.apply(attacher.maps)?;
        follower.push_events(attacher.maps)?;
        Ok(way)
    });
    let way = match done {
        Ok(way) => way,
        // The first error is the one to tell.
        Err(error) => {
            if adopts {
                if let Err(error) = before
                    .restore(&mut attacher, &netlink, &plan, &devices)
                    .await
                {
                    log::warn!("{error}");
                }
            } else {
                for error in detach::remove_everything(pins).await {
                    log::warn!("{error}");
                }
            }
            return Err(error);
        }
    };
    hooks::detach_others(pins, &mut maps, &plan).await?;
    routing::settle(&netlink, &mut maps, &devices).await?;
    prepared.keep();
    for note in &plan.notes {
        eprintln!("steerctl: {note}");
    }
    Ok(Some(Started {
        line: format!("ready {}", summary(&plan, way)),
        programs,
        order: plan.order,
        follower,
    }))
}

/// The routes that the group is to follow.
fn follows(args: &SteerArgs) -> Result<Follows, Failure> {
    let Some(spec) = args.follow() else {
        return Ok(Vec::new());
    };
    let routes = spec.resolve(&RouteNames::read())?;
    Ok(vec![(args.group.clone(), routes)])
}

/// What is pinned, and its hooks.
fn known(
    pins: &PinDir,
    adopts: bool,
    netns: u64,
) -> Result<(Existing, Vec<(HookKey, Hook)>), Failure> {
    if adopts {
        let maps = Maps::open(pins)?;
        // Device numbers mean nothing in another namespace.
        if maps.settings()?.netns != netns {
            let dir = pins.path().to_owned();
            return Err(DatapathError::OtherNetns { dir }.into());
        }
        return Ok((state::existing(&maps)?, maps.hooks()?));
    }
    // What an unfinished start left is ours, too.
    let Some(maps) = detach::maps_of_any_layout(pins)? else {
        return Ok((Existing::default(), Vec::new()));
    };
    let existing = Existing {
        routing_slot: maps.settings()?.routing_slot,
        ..Existing::default()
    };
    Ok((existing, maps.hooks()?))
}

/// Does what a plan says. Packets are steered last, so what they need is there by then.
async fn bring_about(
    attacher: &mut Attacher<'_>,
    netlink: &Netlink,
    plan: &Plan,
    seed: u64,
    netns: u64,
    devices: &Devices,
) -> Result<AttachKind, Failure> {
    // Whoever cleans up after this must know where.
    let settings = Settings {
        netns,
        ..attacher.maps.settings()?
    };
    attacher.maps.set_settings(&settings)?;
    routing::prepare(netlink, attacher.maps, plan, devices).await?;
    sysctls::change(attacher.maps, plan)?;
    let way = attacher.attach_all(plan)?;
    apply::write(attacher.maps, plan, seed, netns, devices)?;
    Ok(way)
}

/// What a start found that is to change what is there.
struct Before {
    settings: Settings,
    hooks: Vec<(HookKey, Hook)>,
    tunnels: Vec<KnownTunnel>,
}

impl Before {
    /// Goes back to it, after the start failed.
    async fn restore(
        &self,
        attacher: &mut Attacher<'_>,
        netlink: &Netlink,
        plan: &Plan,
        devices: &Devices,
    ) -> Result<(), Failure> {
        let routing_slot = attacher.maps.settings()?.routing_slot;
        attacher.maps.set_settings(&Settings {
            routing_slot,
            ..self.settings
        })?;
        sysctls::undo(attacher.maps, plan, &self.tunnels);
        let now = attacher.maps.hooks()?;
        let is_replaced = self.hooks.iter().any(|known| !now.contains(known));
        if is_replaced && self.settings.hook != plan.mode {
            let mut programs = Programs::load(attacher.pins, plan.max_flows, self.settings.hook)?;
            let mut attacher = Attacher {
                programs: &mut programs,
                maps: attacher.maps,
                targets: attacher.targets,
                ..*attacher
            };
            attacher.attach_again(&self.hooks, devices)?;
        }
        hooks::remove_new(attacher.pins, attacher.maps, &self.hooks).await?;
        routing::settle(netlink, attacher.maps, devices).await
    }
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
    known: &[(HookKey, Hook)],
) -> Result<(), Failure> {
    let mut ours = programs::pinned_programs(&context.pins);
    ours.extend(known.iter().map(|(_, hook)| hook.program_id));
    for attachment in plan.attachments() {
        programs::refuse_other_instance(attachment.name, attachment.kind, &ours)?;
        hooks::refuse_foreign_filter(netlink, attachment, known).await?;
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
    let lan = join(plan.hooks.iter().map(|hook| hook.name.clone()).collect());
    let from = match lan.as_str() {
        "" => String::new(),
        lan => format!(" from {lan}"),
    };
    format!(
        "{}: {} over {}{from} ({}, {way})",
        plan.group,
        if plan.follows_routes {
            "routes".into()
        } else {
            join(plan.prefixes.iter().map(ToString::to_string).collect())
        },
        join(
            plan.tunnels
                .iter()
                .map(|t| format!("{}={}@{}", t.name, t.weight, t.id))
                .collect()
        ),
        plan.mode.name(),
    )
}
