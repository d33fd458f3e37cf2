//! Nanoseconds of CPU per forwarded packet, through a gateway, on one CPU.

use anyhow::{Context as _, Result, ensure};

use super::{
    Group, Report, Scenario, Series,
    peers::Peer,
    scenario::ALL_NEW,
    side_by_side::{self, Cell, Column, Table},
    site::Site,
};
use crate::lab::wait;

/// Packets per round and system.
const PACKETS: u32 = 100_000;
/// The same where each starts a flow: eleven rounds and the first packets have room in the usual connection
/// tracker, and 50 in steer's largest flow table.
const NEW_FLOWS: u32 = 20_000;
/// What is in no system's figure.
pub(super) const SOURCE: &str = "not counted: the source";
/// Packets before the first round, per flow: one flow in 20,000 is left out.
const WARM_UP_PER_FLOW: u32 = 10;

/// How it is measured, for the report.
const METHOD: &str = "XDP live frames (BPF_PROG_TEST_RUN, batches of 64) enter the gateway by a veth device; each packet \
     is of a random flow; TUN devices without a queue that free each packet are the tunnels. All within one system call on one CPU: \
     its CPU time by packets, less what the source takes by itself just before. So the kernel's work to make and free a packet counts, \
     for all alike. A namespace for each system, all at once, each round from another one on; what the kernel switches on for \
     the whole machine (netfilter's and TC's hooks) is on for all. Every packet is counted at the tunnels, and steer must have seen \
     each. UDP without checksum, 64 bytes of payload; steer without probes. Learned packets come from a tunnel by way of the CPU's backlog, \
     whose cost to bring them there is taken off.";

/// What to measure: scenarios, and who takes part.
pub type Plan = Vec<(Scenario, Vec<Peer>)>;

/// The part of the matrix whose scenarios' and peers' names contain these. The baseline stays.
pub fn plan(full: bool, scenario: Option<&str>, peer: Option<&str>) -> Result<Plan> {
    let mut plan = Scenario::matrix(full);
    if let Some(only) = scenario {
        plan.retain(|(scenario, _)| scenario.to_string().contains(only));
        ensure!(!plan.is_empty(), "no scenario is called {only:?}");
    }
    if let Some(only) = peer {
        for (_, peers) in &mut plan {
            peers.retain(|peer| *peer == Peer::Bare || peer.to_string().contains(only));
        }
        plan.retain(|(_, peers)| peers.iter().any(|peer| peer.to_string().contains(only)));
        ensure!(
            !plan.is_empty(),
            "no system in these scenarios is called {only:?}"
        );
    }
    Ok(plan)
}

/// Measures, and hands on each scenario as soon as it is done.
pub fn run(plan: &Plan, rounds: usize, mut done: impl FnMut(&Group)) -> Result<Report> {
    let mut report = Report::new("cost", METHOD, rounds);
    for (scenario, peers) in plan {
        let group = measure(scenario, peers, rounds, &mut report.left_out)
            .with_context(|| scenario.to_string())?;
        done(&group);
        report.groups.push(group);
    }
    Ok(report)
}

/// All peers in one scenario, in interleaved rounds.
fn measure(
    scenario: &Scenario,
    peers: &[Peer],
    rounds: usize,
    left_out: &mut Vec<String>,
) -> Result<Group> {
    let mut sites = Vec::new();
    for (number, peer) in peers.iter().enumerate() {
        wait::check_interrupt()?;
        let Some(reason) = peer.cannot_hold(entries(scenario, rounds)) else {
            let site = Site::build(number, *peer, scenario);
            sites.push(site.with_context(|| peer.to_string())?);
            continue;
        };
        eprintln!("NOT MEASURED {peer}, {scenario}: {reason}");
        left_out.push(format!("{peer}, {scenario}: {reason}"));
    }
    let (packets, warm_up) = match scenario.flows {
        ALL_NEW => (NEW_FLOWS, NEW_FLOWS),
        flows => (PACKETS, (flows * WARM_UP_PER_FLOW).max(PACKETS / 5)),
    };
    for site in &sites {
        wait::check_interrupt()?;
        site.warm_up(warm_up)?;
    }
    let mut all: Vec<_> = sites
        .iter()
        .map(|site| Series::new(site.peer().to_string()))
        .collect();
    let mut source = Series::new(SOURCE);
    for round in 0..rounds {
        wait::check_interrupt()?;
        let mut alone = 0.0;
        // Nobody always has the same one before him.
        for turn in 0..sites.len() {
            let which = (round + turn) % sites.len();
            let site = &sites[which];
            let own = site.source_alone(packets)?;
            all[which].rounds.push(site.forward(packets)? - own);
            alone += own;
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        source.rounds.push(alone / sites.len() as f64);
    }
    all.push(source);
    Group::new(scenario.to_string(), "ns", &all)
}

/// Entries that a system with state has in the end.
fn entries(scenario: &Scenario, rounds: usize) -> u32 {
    match scenario.flows {
        ALL_NEW => NEW_FLOWS.saturating_mul(u32::try_from(rounds + 1).unwrap_or(u32::MAX)),
        flows => flows,
    }
}

/// What to publish: a column for each scenario.
pub fn tables(report: &Report) -> Vec<Table<'_>> {
    let kinds: [(_, Cell); 2] = [
        (
            "CPU per packet, as a multiple of the bare redirect",
            side_by_side::ratio,
        ),
        ("CPU per packet, ns", side_by_side::whole),
    ];
    let table = |(title, cell): (&str, Cell)| {
        let heading = |group: &Group| group.name.replace(", ", "<br>");
        let groups = report.groups.iter();
        Table {
            title: title.to_owned(),
            columns: groups
                .map(|group| Column::new(group, heading(group), cell))
                .collect(),
        }
    };
    kinds.map(table).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_matrix_keeps_the_baseline() -> Result<()> {
        assert!(plan(false, Some("IPv5"), None).is_err());
        assert!(plan(false, None, Some("ster")).is_err());
        let plan = plan(false, Some("IPv6"), Some("steer mark"))?;
        assert!(!plan.is_empty());
        for (scenario, peers) in plan {
            assert!(scenario.ipv6);
            assert_eq!(peers, [Peer::Bare, Peer::SteerMark]);
        }
        Ok(())
    }
}
