//! What the machines said, line by line.

mod table;

use std::{collections::BTreeMap, iter, time::Duration};

use super::{kernels::Kernel, plan::Job};
use crate::libtest::Tally;
pub(crate) use table::tables;

/// What begins the lines of process 1.
const MARK: &str = "@@ ";

/// From power on to the first word of process 1.
const BOOT: Duration = Duration::from_mins(2);
/// From one step to the next, besides a test target's own time.
const STEP: Duration = Duration::from_mins(1);
/// What the kernel says when something in it went wrong that the tests need not notice.
const FAULTS: [&str; 4] = ["WARNING:", "BUG:", "Oops", "recursion limit"];

/// The runs on one kernel.
#[derive(Debug)]
pub(crate) struct Report {
    /// How the kernel is called in tables: `6.1`.
    kernel: String,
    /// The package's version, if there is one.
    version: Option<String>,
    /// What it says of itself.
    release: Option<String>,
    runs: Vec<Run>,
    /// What is not one target's: a kernel that is not there, or that complains.
    own: Tally,
    is_finished: bool,
    /// Instructions that the verifier walked, by program.
    verified: BTreeMap<String, u32>,
}

/// One test target on one kernel.
#[derive(Debug)]
struct Run {
    job: Job,
    tally: Tally,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Ended,
}

impl Report {
    pub(crate) fn new(kernel: &Kernel, jobs: &[Job]) -> Self {
        let runs = jobs.iter().map(|job| Run {
            job: job.clone(),
            tally: Tally::default(),
            state: State::Waiting,
        });
        Self {
            version: Some(kernel.version.clone()),
            runs: runs.collect(),
            ..Self::without(&kernel.wanted, Tally::default())
        }
    }

    /// Of a kernel that is not there, with the reason.
    pub(crate) fn without(kernel: &str, own: Tally) -> Self {
        Self {
            kernel: kernel.to_owned(),
            version: None,
            release: None,
            runs: Vec::new(),
            own,
            is_finished: false,
            verified: BTreeMap::new(),
        }
    }

    /// Takes in the next line. Runs come in the order of the jobs. After a step, gives how long the next
    /// may take.
    pub(crate) fn read(&mut self, text: &str) -> Option<Duration> {
        if let Some(mark) = text.strip_prefix(MARK) {
            self.mark(mark);
            return Some(self.patience());
        }
        if let Some((program, verified)) = verified(text) {
            self.verified.insert(program.to_owned(), verified);
        }
        if let Some(run) = self.running() {
            run.tally.read(text);
        }
        None
    }

    /// How long the next step may take.
    pub(crate) fn patience(&self) -> Duration {
        if self.release.is_none() {
            return BOOT;
        }
        let mut running = self.runs.iter().filter(|run| run.state == State::Running);
        let limit = running.next().map_or(0, |run| run.job.limit_secs);
        STEP + Duration::from_secs(limit.into())
    }

    fn running(&mut self) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.state == State::Running)
    }

    fn mark(&mut self, mark: &str) {
        let mut words = mark.split_whitespace();
        match (words.next(), words.next()) {
            (Some("kernel"), Some(release)) => self.release = Some(release.to_owned()),
            (Some("finished"), _) => self.is_finished = true,
            (Some("begin"), Some(target)) => {
                if let Some(run) = self.running() {
                    run.fail("its end was not seen");
                }
                let mut runs = self.runs.iter_mut();
                if let Some(run) = runs.find(|run| run.is(State::Waiting, target)) {
                    run.state = State::Running;
                }
            }
            (Some("end"), Some(target)) => {
                let status = words.next().unwrap_or("unknown");
                let mut runs = self.runs.iter_mut();
                if let Some(run) = runs.find(|run| run.is(State::Running, target)) {
                    run.end(status);
                }
            }
            _ => {}
        }
    }

    /// Whether all that was to run has ended.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_finished && self.runs.iter().all(|run| run.state == State::Ended)
    }

    /// Counts what did not run to its end as failed, for this reason.
    pub(crate) fn cut_short(&mut self, reason: &str) {
        let mut runs = self.runs.iter_mut().filter(|run| run.state != State::Ended);
        match runs.next() {
            Some(first) => {
                first.fail(reason);
                runs.for_each(|run| run.fail(reason));
            }
            None => self.own.fail(format!("machine: {reason}")),
        }
    }

    /// Fails for what the kernel said of itself.
    pub(crate) fn read_console(&mut self, text: &str) {
        let is_fault = |line: &&str| FAULTS.iter().any(|fault| line.contains(fault));
        if let Some(line) = text.lines().find(is_fault) {
            self.own.fail(format!("kernel: {}", line.trim()));
        }
    }

    /// The tallies, with names that say the kernel.
    pub(crate) fn tallies(&self) -> Vec<Tally> {
        iter::once(&self.own)
            .chain(self.runs.iter().map(|run| &run.tally))
            .map(|tally| tally.clone().of(&self.kernel))
            .collect()
    }
}

impl Run {
    fn is(&self, state: State, target: &str) -> bool {
        self.state == state && self.job.target == target
    }

    fn fail(&mut self, reason: &str) {
        self.state = State::Ended;
        self.tally.fail(format!("{}: {reason}", self.job.target));
    }

    /// Its exit status is the last word, whatever the harness counted.
    fn end(&mut self, status: &str) {
        self.state = State::Ended;
        match status {
            _ if self.tally.failed > 0 => {}
            "0" if self.job.must_run && !self.tally.has_run() => self.fail("ran no test"),
            "0" => {}
            "137" => self.fail("killed, most likely at its time limit"),
            other => self.fail(&format!("exit status {other}")),
        }
    }
}

/// A line of the table of sizes that a test prints: `steer_ingress 224000 34000 19000`.
fn verified(text: &str) -> Option<(&str, u32)> {
    let mut words = text.split_whitespace();
    let (program, verified) = (words.next()?, words.next()?.parse().ok()?);
    let is_row = program.starts_with("steer_") && words.all(|word| word.parse::<u32>().is_ok());
    is_row.then_some((program, verified))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        test::Tier,
        vm::plan::{Extent, jobs},
    };

    fn report(lines: &str) -> Report {
        let kernel = Kernel {
            wanted: "6.1".into(),
            version: "6.1.192-2".into(),
            release: String::new(),
            image: PathBuf::new(),
            tree: PathBuf::new(),
        };
        let jobs = jobs("6.1", Some(Tier::Program), Extent::Full, &[]);
        let mut report = Report::new(&kernel, &jobs[..2]);
        for line in lines.lines() {
            report.read(line);
        }
        report
    }

    fn failures(report: &Report) -> Vec<String> {
        let tallies = report.tallies().into_iter();
        tallies
            .flat_map(|tally| tally.failures)
            .map(|failure| failure.name)
            .collect()
    }

    const FIRST: &str = "@@ kernel 6.1.0-56-cloud-amd64\n@@ begin program\ntest a ... ok\ntest b ... ok\n\
        SKIP b: no TCX\ntest result: ok. 2 passed; 0 failed; 0 ignored\n@@ end program 0 12.3\n";
    const SECOND: &str = "@@ begin program_state\ntest c ... ok\n\
        test result: ok. 1 passed; 0 failed;\n@@ end program_state 0 20\n@@ finished\n";

    #[test]
    fn each_target_has_its_own_tally() {
        let report = report(&format!(
            "{FIRST}@@ begin program_state\ntest c ... FAILED\nsteer_ingress 222000 40000 20000\n\
             test result: FAILED. 0 passed; 1 failed;\n@@ end program_state 101 20\n@@ finished\n"
        ));
        assert!(report.is_whole());
        let text = tables(&[report]);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let release = "6.1.0-56-cloud-amd64";
        assert_eq!(
            row,
            ["6.1", "6.1.192-2", release, "program", "1", "1", "1"],
            "{text}"
        );
        assert!(
            text.contains("\nsteer_ingress              222000\n"),
            "{text}"
        );
    }

    #[test]
    fn a_machine_that_died_has_failed() {
        let mut report = report(&format!("{FIRST}@@ begin program_state\ntest c ... ok\n"));
        assert!(!report.is_whole());
        report.cut_short("the machine ended");
        assert_eq!(failures(&report), ["6.1::program_state: the machine ended"]);
    }

    #[test]
    fn a_machine_that_died_after_its_tests_has_failed() {
        let mut report = report(&format!("{FIRST}{SECOND}"));
        assert!(report.is_whole());
        assert!(failures(&report).is_empty());
        report.cut_short("no power off");
        assert_eq!(failures(&report), ["6.1::machine: no power off"]);
    }

    #[test]
    fn a_target_that_was_killed_has_failed_and_the_next_is_itself() {
        // A test that hangs leaves the beginning of a line.
        let report = report(&format!(
            "@@ kernel 6.1\n@@ begin program\ntest a ... \n@@ end program 137 400\n{SECOND}"
        ));
        let killed = "6.1::program: killed, most likely at its time limit";
        assert_eq!(failures(&report), [killed]);
        assert_eq!(report.tallies()[2].passed(), 1);
        assert!(report.is_whole());
    }

    #[test]
    fn an_end_that_was_not_seen_does_not_shift_the_others() {
        let report = report(&format!(
            "@@ kernel 6.1\n@@ begin program\ntest a ... @@ end program 137 400\n{SECOND}"
        ));
        assert_eq!(failures(&report), ["6.1::program: its end was not seen"]);
        assert_eq!(report.tallies()[2].passed(), 1);
    }

    #[test]
    fn a_target_without_tests_has_failed() {
        let report = report(
            "@@ begin program\nrunning 0 tests\n\
            test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out\n@@ end program 0 3\n",
        );
        assert_eq!(failures(&report), ["6.1::program: ran no test"]);
    }

    #[test]
    fn what_the_kernel_complains_of_is_a_failure() {
        let mut report = report(&format!("{FIRST}{SECOND}"));
        report.read_console("[    1.0] fine\n");
        assert!(failures(&report).is_empty());
        report
            .read_console("[    2.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1\r\n[ 2.1] more\n");
        assert_eq!(
            failures(&report),
            ["6.1::kernel: [    2.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1"]
        );
        assert!(tables(&[report]).contains(" -             0      1       0\n"));
    }

    #[test]
    fn a_kernel_that_is_not_there_has_a_row() {
        let own = Tally::skipped_tier("vm", "not offered");
        let text = tables(&[Report::without("6.12", own)]);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[0], "6.12");
        assert_eq!(row[row.len() - 3..], ["0", "0", "1"], "{text}");
    }

    #[test]
    fn a_step_has_its_own_time() {
        let mut report = report("");
        assert_eq!(report.patience(), BOOT);
        assert_eq!(report.read("@@ kernel 6.1"), Some(STEP));
        let limit = Duration::from_secs(report.runs[0].job.limit_secs.into());
        assert_eq!(report.read("@@ begin program"), Some(STEP + limit));
        assert_eq!(report.read("test a ... ok"), None);
        assert_eq!(report.read("@@ end program 0 9"), Some(STEP));
    }

    #[test]
    fn only_rows_of_sizes_are_taken() {
        assert_eq!(
            verified("steer_move  2000  5000 2000"),
            Some(("steer_move", 2000))
        );
        assert_eq!(verified("steer_move failed 3"), None);
        assert_eq!(verified("other 1 2"), None);
    }
}
