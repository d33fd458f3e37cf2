//! What `cargo xtask vm` is asked for, and whether there is anything to run of it.

use std::collections::BTreeSet;

use clap::{Args, builder::PossibleValuesParser};

use super::{
    boot::Accel,
    plan::{self, Extent, Job},
    version,
};
use crate::test::Tier;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct VmArgs {
    /// Only this kernel (6.1, 6.12, 6.18, newest, or a full version); may be repeated.
    #[arg(long = "kernel", value_name = "V", value_parser = version::parse)]
    kernels: Vec<String>,
    /// Only this tier: program, lab or vm.
    #[arg(long)]
    tier: Option<Tier>,
    /// Only this target of its tests; may be repeated.
    #[arg(long = "target", value_name = "TARGET", value_parser = PossibleValuesParser::new(plan::targets()))]
    targets: Vec<String>,
    /// Only what `cargo xtask test vm` runs for every change.
    #[arg(long)]
    quick: bool,
    /// A prompt in a machine of one kernel, with a lab that is up, and no tests.
    #[arg(long, conflicts_with_all = ["tier", "targets", "quick", "no_skip", "harness"])]
    pub(crate) shell: bool,
    /// Keep what was booted, in target/vm/kept, and say how to boot it again.
    #[arg(long)]
    keep: bool,
    /// Look for newer kernels than those that were fetched before.
    #[arg(long)]
    update: bool,
    /// A skipped test is a failure; the environment variable CI=true means the same.
    #[arg(long)]
    pub(crate) no_skip: bool,
    /// What runs the machine.
    #[arg(long, default_value = "tcg")]
    accel: Accel,
    /// Arguments of the test harness, for example the name of a test.
    #[arg(last = true, value_name = "HARNESS ARGS")]
    harness: Vec<String>,
}

/// What is to be run.
pub(crate) struct Request {
    pub(crate) kernels: Vec<String>,
    /// Whether the user named the kernels: none may be missing then.
    pub(crate) are_named: bool,
    tier: Option<Tier>,
    targets: Vec<String>,
    extent: Extent,
    pub(crate) keep: bool,
    pub(crate) update: bool,
    pub(crate) accel: Accel,
    harness: Vec<String>,
}

impl Request {
    /// What is run for every change.
    pub(crate) fn quick(harness: &[String]) -> Self {
        Self {
            kernels: plan::PAIR.map(str::to_owned).to_vec(),
            are_named: false,
            tier: None,
            targets: Vec::new(),
            extent: Extent::Quick,
            keep: false,
            update: false,
            accel: Accel::Tcg,
            harness: harness.to_vec(),
        }
    }

    /// What a command line asks for; by itself all kernels and all tests.
    pub(crate) fn of(args: &VmArgs) -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        let named = args.kernels.iter().filter(|kernel| seen.insert(*kernel));
        let mut request = Self {
            kernels: named.cloned().collect(),
            are_named: !args.kernels.is_empty(),
            tier: args.tier,
            targets: args.targets.clone(),
            extent: if args.quick {
                Extent::Quick
            } else {
                Extent::Full
            },
            keep: args.keep,
            update: args.update,
            accel: args.accel,
            harness: args.harness.clone(),
        };
        if args.shell {
            return request.for_prompt();
        }
        if !request.are_named {
            request.kernels = plan::kernels(request.extent)
                .into_iter()
                // An old one need not have what is asked for.
                .filter(|kernel| !request.jobs(kernel).is_empty())
                .map(str::to_owned)
                .collect();
        }
        let is_idle = |kernel: &String| request.jobs(kernel).is_empty();
        if request.kernels.is_empty() || request.kernels.iter().any(is_idle) {
            return Err("nothing to run: these kernels have no such tests".to_owned());
        }
        Ok(request)
    }

    fn for_prompt(mut self) -> Result<Self, String> {
        match self.kernels.len() {
            0 => self.kernels.push(plan::PAIR[1].to_owned()),
            1 => {}
            _ => return Err("--shell: a prompt is of one kernel".to_owned()),
        }
        Ok(self)
    }

    /// The runs on a kernel.
    pub(crate) fn jobs(&self, kernel: &str) -> Vec<Job> {
        let mut jobs = plan::jobs(kernel, self.tier, self.extent, &self.harness);
        let is_asked = |target| self.targets.is_empty() || self.targets.iter().any(|t| t == target);
        jobs.retain(|job| is_asked(job.target));
        jobs
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: VmArgs,
    }

    fn asked(line: &str) -> Result<Request, String> {
        let words = std::iter::once("vm").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Request::of(&line.args)
    }

    fn kernels(line: &str) -> Vec<String> {
        asked(line).expect(line).kernels
    }

    #[test]
    fn each_kernel_is_booted_once() {
        assert_eq!(kernels(""), ["5.10", "6.1", "6.12", "6.18", "newest"]);
        assert_eq!(kernels("--quick"), plan::PAIR);
        assert_eq!(
            kernels("--kernel 6.12 --kernel 6.1 --kernel 6.12"),
            ["6.12", "6.1"]
        );
        assert_eq!(kernels("--shell"), ["6.18"]);
        // The lab is nothing for a kernel that steer refuses.
        assert_eq!(kernels("--tier lab"), plan::SUPPORTED);
        assert_eq!(kernels("-- netem"), plan::SUPPORTED);
        assert_eq!(kernels("--target lab_lan --target doctor"), plan::SUPPORTED);
        assert_eq!(kernels("--quick --target vm"), plan::PAIR);
    }

    #[test]
    fn only_the_targets_that_are_asked_for_run() {
        let targets = |line| -> Vec<_> {
            let jobs = asked(line).expect(line).jobs("6.1");
            jobs.iter().map(|job| job.target).collect()
        };
        assert_eq!(targets("--target vm --target config"), ["config", "vm"]);
        assert_eq!(targets("--tier lab --target doctor"), ["doctor"]);
    }

    #[test]
    fn what_would_run_nothing_is_refused() {
        for line in [
            "--quick --tier lab",
            "--tier host",
            "--kernel 5.10 --tier lab",
            "--kernel 5.10 --kernel 6.1 --tier program",
            "--kernel 6.x",
            "--shell --kernel 6.1 --kernel 6.12",
            "--shell --quick",
            "--shell --tier lab",
            "--shell --target vm",
            "--tier program --target vm",
            "--quick --target lab",
            "--target labs",
            "--shell -- name",
        ] {
            assert!(asked(line).is_err(), "{line}");
        }
    }
}
