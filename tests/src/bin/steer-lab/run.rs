//! `steer-lab run`: real flows over real tunnels, changes under traffic, a report.

use std::time::{Duration, Instant};

use anyhow::Result;
use steer_tests::lab::{
    Conversation, Family, Lab, Observer, Options, Seen, Side, Steer, lab_dir, steerctl_path,
    tunnel_name,
};
use steer_tests::traffic::{Bulk, LiveFlows, LiveSpec, Server, burst};

use crate::Size;
use crate::cut::cut;
use crate::report::{Change, Report, Spread};
use crate::text::{BOLD, ratio, step, thousands};
use crate::view::View;

/// The lab's name: one run at a time.
pub(crate) const NAME: &str = "run";
/// New flows after each change.
const NEW_FLOWS: usize = 4_000;
/// How long live flows are observed before and after a change: twenty messages of each.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
/// Time for TCP to find its rate before it is measured.
const RAMP_UP: Duration = Duration::from_secs(1);

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    size: Size,
    /// TCP flows to send over the tunnels.
    #[arg(long, value_name = "P", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    flows: u16,
    /// How long the TCP flows send.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Leave the lab up afterwards.
    #[arg(long)]
    keep: bool,
}

/// The whole run.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let started = Instant::now();
    // Before anything is built.
    steerctl_path()?;
    let mut report = Report {
        bulk_flows: args.flows.into(),
        ..Report::default()
    };
    let mut lab = build(&args.size.into(), &mut report)?;
    let server = Server::start(&lab)?;
    let seconds = Duration::from_secs(args.seconds.into());
    report.one_tunnel_mbit = step("One tunnel alone, without steer", || {
        let mut bulk = Bulk::start(&lab, &server, Family::V4, args.flows.into())?;
        bulk.goodput(&server, RAMP_UP)?;
        let mbit = bulk.goodput(&server, seconds.min(Duration::from_secs(4)))?;
        Ok((mbit, format!("{} TCP flows, {mbit:.1} Mbit/s", args.flows)))
    })?;
    let (mut near, mut far) = step("steer on both gateways", || {
        let weights = vec![1; lab.options().tunnels];
        let near = Steer::start(&lab, Side::A, &weights)?;
        let far = Steer::start(&lab, Side::B, &weights)?;
        let ready = near
            .log()
            .lines()
            .find(|line| line.starts_with("ready"))
            .unwrap_or("")
            .to_owned();
        Ok(((near, far), ready))
    })?;
    let mut view = View::new(&near);
    bulk(&lab, &server, &mut view, args, &mut report)?;
    if lab.options().tunnels > 1 {
        changes(&lab, &near, &mut view, &mut report)?;
        report.cut = Some(cut(&lab, &mut view)?);
    }
    anstream::println!("{report}");
    if args.keep {
        keep(&mut lab, near, far);
    } else {
        near.stop()?;
        far.stop()?;
        drop(server);
        drop(lab);
    }
    anstream::println!("{:.1} s in all", started.elapsed().as_secs_f32());
    Ok(())
}

fn build(options: &Options, report: &mut Report) -> Result<Lab> {
    step("Lab", || {
        let lab = Lab::up(NAME, options)?;
        report.lab = format!(
            "{} tunnels of {} Mbit/s ({}), IPv4 and IPv6",
            options.tunnels,
            options.rate_mbit,
            lab.implementation()
        );
        Ok((lab, report.lab.clone()))
    })
}

/// All tunnels at once: goodput, and how flows and bytes are spread.
fn bulk(
    lab: &Lab,
    server: &Server,
    view: &mut View<'_>,
    args: &RunArgs,
    report: &mut Report,
) -> Result<()> {
    view.title(format!(
        "{} TCP flows over {} tunnels",
        args.flows,
        lab.options().tunnels
    ))?;
    let observer = Observer::start(lab)?;
    let mut bulk = Bulk::start(lab, server, Family::V4, args.flows.into())?;
    view.watch(RAMP_UP)?;
    let before = lab.tunnel_counters(Side::A)?;
    let seconds = Duration::from_secs(args.seconds.into());
    report.all_tunnels_mbit = view.during(|| bulk.goodput(server, seconds))?;
    let after = lab.tunnel_counters(Side::A)?;
    let seen = observer.take()?;
    report.spread = (0..lab.options().tunnels)
        .map(|k| Spread {
            flows: seen.count_on(k),
            bytes: after[k].tx_bytes - before[k].tx_bytes,
        })
        .collect();
    Ok(())
}

/// Weights changed, a tunnel removed and returned, under 200 live flows.
fn changes(lab: &Lab, near: &Steer, view: &mut View<'_>, report: &mut Report) -> Result<()> {
    let tunnels = lab.options().tunnels;
    let equal = vec![1; tunnels];
    let mut weights = equal.clone();
    weights[0] = 3;
    let last = tunnels - 1;
    let name = tunnel_name(last);

    view.title("100 TCP and 100 UDP live flows start, IPv4 and IPv6")?;
    let observer = Observer::start(lab)?;
    let live = view.during(|| {
        let half = |family| {
            let interval = Duration::from_millis(50);
            LiveFlows::start(
                lab,
                LiveSpec {
                    family,
                    tcp: 50,
                    udp: 50,
                    interval,
                },
            )
        };
        Ok([half(Family::V4)?, half(Family::V6)?])
    })?;
    let flows: Vec<_> = live.iter().flat_map(LiveFlows::conversations).collect();
    let first = view.during(|| observer.window(&flows, WINDOW))?;
    report.replies = Some(replies_by_own_tunnel(&flows, &first));

    let what = format!("Weights {} → {}", ratio(&equal), ratio(&weights));
    view.title(&what)?;
    let names: Vec<_> = (0..tunnels).map(tunnel_name).collect();
    let change: Vec<_> = names
        .iter()
        .map(String::as_str)
        .zip(weights.iter().copied())
        .collect();
    near.weights(&change)?;
    let second = view.during(|| observer.window(&flows, WINDOW))?;
    let mut change = moved(what, &flows, &first, &second, None);
    change.new_flows = Some(new_flows(lab, &observer, view, &weights)?);
    report.weights = Some(change);

    let what = format!("Tunnel {name} disabled");
    view.title(&what)?;
    near.disable(&name)?;
    let third = view.during(|| observer.window(&flows, WINDOW))?;
    report.removed = Some(moved(what, &flows, &second, &third, Some(last)));

    let what = format!("Tunnel {name} enabled again");
    view.title(&what)?;
    near.enable(&name)?;
    let fourth = view.during(|| observer.window(&flows, WINDOW))?;
    let mut change = moved(what, &flows, &third, &fourth, None);
    change.new_flows = Some(new_flows(lab, &observer, view, &weights)?);
    report.returned = Some(change);

    let (mut sent, mut lost) = (0, 0);
    for half in live {
        let half = half.stop()?;
        sent += half.sent();
        lost += half.lost();
        report.broken += half.broken();
    }
    report.messages = Some((sent, lost));
    Ok(())
}

/// What a change did to the live flows; those that were on `own` count apart.
fn moved(
    what: String,
    flows: &[Conversation],
    before: &Seen,
    after: &Seen,
    own: Option<usize>,
) -> Change {
    let (own_flows, others) = match own {
        Some(tunnel) => before.split(flows, tunnel),
        None => (Vec::new(), flows.to_vec()),
    };
    let count = |flows: &[Conversation]| (flows.len(), after.moved_since(before, flows).len());
    Change {
        what,
        own: own.map(|_| count(&own_flows)),
        others: count(&others),
        new_flows: None,
    }
}

/// New flows, and where they went.
fn new_flows(
    lab: &Lab,
    observer: &Observer,
    view: &mut View<'_>,
    weights: &[u32],
) -> Result<(usize, std::collections::BTreeMap<usize, f64>, Vec<u32>)> {
    view.title(format!(
        "{} new flows with weights {}",
        thousands(NEW_FLOWS as u64),
        ratio(weights)
    ))?;
    observer.take()?;
    let burst = view.during(|| burst(lab, Family::V4, NEW_FLOWS))?;
    Ok((
        NEW_FLOWS,
        burst.shares(&observer.take()?)?,
        weights.to_vec(),
    ))
}

/// Percent of flows whose packets of both directions used the same one tunnel.
#[expect(clippy::cast_precision_loss, reason = "a shown share")]
fn replies_by_own_tunnel(flows: &[Conversation], seen: &Seen) -> f64 {
    let same = flows.len() - seen.asymmetric(flows).len();
    same as f64 * 100.0 / flows.len() as f64
}

/// Leaves everything up, and says how to get in and how to end it.
pub(crate) fn keep(lab: &mut Lab, near: Steer, far: Steer) {
    near.keep();
    far.keep();
    lab.keep();
    anstream::println!(
        "{BOLD}The lab stays up.{BOLD:#} Its files are in {}.",
        lab_dir(lab.name()).display()
    );
    anstream::println!(
        "  cargo xtask lab shell a      a shell on gateway A; also: client, b, server"
    );
    anstream::println!("  steerctl status              in that shell");
    anstream::println!("  cargo xtask lab down         removes it");
}
