//! What runs on which kernel.

use super::version::{NEWEST, numbers};
use crate::test::{LAB, PROGRAM, Tier, VM};

/// The oldest kernel that steer runs on in the matrix, one of each long-term series since, the newest.
pub(crate) const SUPPORTED: [&str; 4] = ["6.1", "6.12", "6.18", NEWEST];
/// One that `steerctl` refuses.
pub(crate) const REFUSED: &str = "5.10";
/// The first that it does not.
const OLDEST: (u32, u32) = (5, 15);
/// The one test that an old kernel has to pass.
const REFUSAL: &str = "release::old_kernels_are_refused_and_no_others";
/// One without TCX and one with it, for every change.
pub(crate) const PAIR: [&str; 2] = ["6.1", "6.18"];

/// The tiers that run in a machine, in order.
pub(crate) const TIERS: [Tier; 3] = [Tier::Program, Tier::Lab, Tier::Vm];

/// All that can run in a machine, in order.
pub(crate) fn targets() -> Vec<&'static str> {
    let lab = LAB.map(|(target, _)| target);
    [&PROGRAM[..], &lab, &VM].concat()
}

/// How much runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What says most in the least time.
    Quick,
    /// All that makes sense in an emulated machine.
    Full,
}

/// The kernels that it runs on.
pub(crate) fn kernels(extent: Extent) -> Vec<&'static str> {
    match extent {
        Extent::Quick => PAIR.to_vec(),
        Extent::Full => [&[REFUSED], &SUPPORTED[..]].concat(),
    }
}

/// One run of a test target in the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) target: &'static str,
    pub(crate) tier: Tier,
    /// After that it is killed.
    pub(crate) limit_secs: u32,
    /// Whether it has failed if it ran no test. What a user names is in one target, and not in others.
    pub(crate) must_run: bool,
    /// Arguments of its test harness.
    pub(crate) arguments: Vec<String>,
}

/// The runs on a kernel, in order. What a user gives the harness replaces our own choice of tests.
pub(crate) fn jobs(
    wanted: &str,
    only: Option<Tier>,
    extent: Extent,
    harness: &[String],
) -> Vec<Job> {
    let targets = |tier| -> Vec<(&'static str, &[&str])> {
        match (tier, extent) {
            (Tier::Program, Extent::Quick) => QUICK_PROGRAM.to_vec(),
            (Tier::Program, Extent::Full) => PROGRAM.map(|target| (target, &[][..])).to_vec(),
            // Too long for every change: what WireGuard in the kernel does differently is in the next tier.
            (Tier::Lab, Extent::Quick) | (Tier::Host, _) => Vec::new(),
            (Tier::Lab, Extent::Full) => LAB.map(|(target, _)| (target, &[][..])).to_vec(),
            (Tier::Vm, Extent::Quick) => vec![(VM[0], &QUICK_VM)],
            (Tier::Vm, Extent::Full) => VM.map(|target| (target, &[][..])).to_vec(),
        }
    };
    let is_old = numbers(wanted).is_some_and(|version| version < OLDEST);
    if is_old {
        let is_asked = harness.is_empty() || harness.iter().any(|word| REFUSAL.contains(&**word));
        let is_here = only.is_none_or(|only| only == Tier::Vm) && is_asked;
        return is_here
            .then(|| job(VM[0], Tier::Vm, &[REFUSAL], &[]))
            .into_iter()
            .collect();
    }
    TIERS
        .into_iter()
        .filter(|tier| only.is_none_or(|only| only == *tier))
        .flat_map(|tier| {
            let runs = targets(tier).into_iter();
            runs.map(move |(target, names)| job(target, tier, names, harness))
        })
        .collect()
}

/// Of the program tier, for every change: what another verifier, helper or map could break. What takes a
/// minute to emulate and depends on the kernel the least is left out.
const QUICK_PROGRAM: [(&str, &[&str]); 4] = [
    ("program", &["every_row", "the_first_packet"]),
    (
        "program_state",
        &["--skip", "a_million_flows", "--skip", "dumps"],
    ),
    ("program_pins", &[]),
    ("program_wire", &[]),
];
/// Of the lab tier, what looks at commands more than at packets: its limits bear two tests at once.
const PATIENT: [&str; 2] = ["steerctl", "doctor"];
/// Of the vm tier's own tests, for every change.
const QUICK_VM: [&str; 3] = ["attach::", "device::", "release::"];

fn job(target: &'static str, tier: Tier, names: &[&str], harness: &[String]) -> Job {
    let limit_secs = match tier {
        Tier::Host | Tier::Program => 400,
        // More than a hundred tests in one target, of which some call `steerctl` a thousand times.
        Tier::Lab => 3_600,
        Tier::Vm => 900,
    };
    // Labs share two emulated processors, and most judge packets by time: those run one test at a time.
    let is_patient = tier == Tier::Program || PATIENT.contains(&target);
    let threads = if is_patient { 2 } else { 1 };
    let mut arguments = vec![
        "--show-output".to_owned(),
        format!("--test-threads={threads}"),
    ];
    if harness.is_empty() {
        arguments.extend(names.iter().map(ToString::to_string));
    } else {
        arguments.extend_from_slice(harness);
    }
    Job {
        target,
        tier,
        limit_secs,
        must_run: harness.is_empty(),
        arguments,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn targets(jobs: &[Job]) -> Vec<&str> {
        jobs.iter().map(|job| job.target).collect()
    }

    #[test]
    fn all_tiers_run_in_order() {
        let all = jobs("6.12", None, Extent::Full, &[]);
        assert_eq!(all.len(), PROGRAM.len() + LAB.len() + VM.len());
        assert_eq!(targets(&all)[0], "program");
        assert_eq!(targets(&all).last(), Some(&"vm"));
        assert_eq!(targets(&all), super::targets());
        let lab = jobs("newest", Some(Tier::Lab), Extent::Full, &[]);
        assert_eq!(lab.len(), LAB.len());
        let is_known = |target| super::targets().contains(target);
        assert!(PATIENT.iter().all(is_known));
    }

    #[test]
    fn nothing_is_left_of_some_wishes() {
        assert!(jobs("6.1", Some(Tier::Lab), Extent::Quick, &[]).is_empty());
        assert!(jobs("6.1", Some(Tier::Host), Extent::Full, &[]).is_empty());
        assert!(jobs(REFUSED, Some(Tier::Lab), Extent::Full, &[]).is_empty());
    }

    #[test]
    fn old_kernels_only_have_to_be_refused() {
        for old in [REFUSED, "5.10.262-1", "4.19"] {
            let jobs = jobs(old, None, Extent::Full, &[]);
            assert_eq!(targets(&jobs), ["vm"], "{old}");
            assert_eq!(jobs[0].arguments.last().map(String::as_str), Some(REFUSAL));
        }
        assert!(jobs("5.15", None, Extent::Full, &[]).len() > 1);
        assert!(jobs(REFUSED, None, Extent::Full, &["netem".to_owned()]).is_empty());
        assert_eq!(
            jobs(REFUSED, None, Extent::Full, &["release".to_owned()]).len(),
            1
        );
    }

    #[test]
    fn a_users_names_replace_ours() {
        let names = ["gso".to_owned()];
        for job in jobs("6.1", None, Extent::Quick, &names) {
            assert_eq!(
                job.arguments[2..],
                names,
                "{}: runs other tests too",
                job.target
            );
            assert!(!job.must_run);
        }
        assert!(
            jobs("6.1", None, Extent::Quick, &[])
                .iter()
                .all(|job| job.must_run)
        );
    }

    /// A name that no test has any more would run nothing.
    #[test]
    fn tests_that_are_named_here_exist() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests"));
        let sources = |target: &str| -> String {
            let file = folder.join(format!("{target}.rs"));
            let mut text = fs::read_to_string(file).unwrap_or_default();
            for entry in fs::read_dir(folder.join(target)).into_iter().flatten() {
                text += &fs::read_to_string(entry.expect("a file").path()).expect("a source");
            }
            text
        };
        let named = [(VM[0], &QUICK_VM[..]), (VM[0], &[REFUSAL])];
        for (target, names) in QUICK_PROGRAM.into_iter().chain(named) {
            let source = sources(target);
            for name in names.iter().filter(|name| !name.starts_with("--")) {
                let (module, test) = name.split_once("::").unwrap_or(("", name));
                let is_there = source.contains(test)
                    && (module.is_empty() || source.contains(&format!("mod {module};")));
                assert!(is_there, "{target}: {name}: no such test");
            }
        }
    }
}
