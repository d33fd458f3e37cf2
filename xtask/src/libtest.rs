//! Reading the output of Rust's test harness as it streams by.
//!
//! Besides the harness's own lines it knows one of ours: a test that cannot
//! run here returns after printing `SKIP name: reason`, or
//! `SKIP (optional) name: reason` where even a complete machine may lack the
//! capability. The harness counts such a test as passed; the tally does not. A
//! name that is not a test's is a case of one: it is listed as skipped, and its
//! test still counts.

/// What the tests of one or more binaries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) failed: usize,
    /// The tests that failed, as far as they are known.
    pub(crate) failures: Vec<Failure>,
    pub(crate) skipped: Vec<Skip>,
    /// What the harness calls passed.
    harness_passed: usize,
    /// The names of the tests that were started.
    started: Vec<String>,
    /// While the harness shows what failed tests printed: whose it is.
    shown: Option<String>,
}

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) name: String,
    /// What it printed.
    pub(crate) output: Vec<String>,
}

impl Failure {
    fn new(name: String) -> Self {
        Self {
            name,
            output: Vec::new(),
        }
    }
}

/// A test that did not run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) name: String,
    pub(crate) reason: String,
    /// A machine meant for testing must be able to run it.
    pub(crate) required: bool,
    /// It skipped itself, so the harness counts it as passed.
    by_itself: bool,
}

impl Tally {
    /// A whole tier that this machine cannot run.
    pub(crate) fn skipped_tier(tier: &str, reason: &str) -> Self {
        Self {
            skipped: vec![Skip {
                name: format!("{tier} tier"),
                reason: reason.to_owned(),
                required: true,
                by_itself: false,
            }],
            ..Self::default()
        }
    }

    /// A whole tier that an error ended.
    pub(crate) fn failed_tier(tier: &str, error: &anyhow::Error) -> Self {
        let mut tally = Self::default();
        tally.fail(format!("{tier} tier: {error:#}"));
        tally
    }

    /// The same with names that say where the tests ran.
    pub(crate) fn of(mut self, place: &str) -> Self {
        for failure in &mut self.failures {
            failure.name = format!("{place}::{}", failure.name);
        }
        for skip in &mut self.skipped {
            skip.name = format!("{place}::{}", skip.name);
        }
        self
    }

    /// Counts a failure that the harness could not count.
    pub(crate) fn fail(&mut self, name: String) {
        self.failed += 1;
        self.failures.push(Failure::new(name));
    }

    /// Whether there was any test to run.
    pub(crate) fn has_run(&self) -> bool {
        self.harness_passed + self.failed + self.skipped.len() > 0
    }

    /// The tests that ran and passed.
    pub(crate) fn passed(&self) -> usize {
        let skipped = self.skipped.iter().filter(|skip| {
            skip.by_itself
                && self.started.iter().any(|test| {
                    // Tests know their function's name, not always its path.
                    test.rsplit("::").next() == skip.name.rsplit("::").next()
                })
        });
        self.harness_passed.saturating_sub(skipped.count())
    }

    /// Takes in the next line of output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some((name, _)) = test_line(line) {
            self.started.push(name.to_owned());
        }
        if let Some(name) = failure(line) {
            self.failures.push(Failure::new(name.to_owned()));
        }
        self.read_output(line);
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.harness_passed += count(counts, "passed");
            self.failed += count(counts, "failed");
        } else if let Some((name, reason)) = ignored(line) {
            self.skipped.push(Skip {
                name: name.to_owned(),
                reason: reason.to_owned(),
                required: false,
                by_itself: false,
            });
        } else if let Some(skip) = skip(line) {
            // Printed once by the test, and perhaps again with its output.
            if !self.skipped.contains(&skip) {
                self.skipped.push(skip);
            }
        }
    }

    /// Keeps what failed tests printed: `---- name stdout ----` and the lines below.
    fn read_output(&mut self, line: &str) {
        let header = line.strip_prefix("---- ");
        let name = header.and_then(|rest| rest.strip_suffix(" stdout ----"));
        match (line, name, &mut self.shown) {
            // Comes again before the list of names.
            ("failures:", ..) => self.shown = Some(String::new()),
            ("successes:", ..) => self.shown = None,
            (_, Some(name), Some(shown)) => name.clone_into(shown),
            (_, None, Some(shown)) => {
                let mut failures = self.failures.iter_mut();
                if let Some(failure) = failures.rfind(|failure| failure.name == *shown) {
                    failure.output.push(line.to_owned());
                }
            }
            (.., None) => {}
        }
    }
}

/// The number before `what` in `ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(counts: &str, what: &str) -> usize {
    counts
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(what))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// The name of a test, and what follows it: `test name ... ok`.
fn test_line(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

/// The name in `test name ... FAILED`.
fn failure(line: &str) -> Option<&str> {
    let (name, state) = test_line(line)?;
    (state == "FAILED").then_some(name)
}

/// `test name ... ignored, reason`.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, state) = test_line(line)?;
    let rest = state.strip_prefix("ignored")?;
    Some((name, rest.strip_prefix(", ").unwrap_or("ignored")))
}

/// Our own line, alone or behind `test name ... ` when nothing is captured.
fn skip(line: &str) -> Option<Skip> {
    let line = test_line(line).map_or(line, |(_, output)| output);
    let rest = line.strip_prefix("SKIP ")?;
    let (required, rest) = match rest.strip_prefix("(optional) ") {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    let (name, reason) = rest.split_once(": ")?;
    Some(Skip {
        name: name.to_owned(),
        reason: reason.trim().to_owned(),
        required,
        by_itself: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally
    }

    const CLOSING: &str = "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; \
                           2 filtered out; finished in 0.01s\n";

    #[test]
    fn the_results_of_several_binaries_add_up() {
        let tally = tally(&CLOSING.repeat(2));
        assert_eq!((tally.passed(), tally.failed), (6, 2));
    }

    #[test]
    fn an_ignored_test_is_a_skip_with_its_reason() {
        let tally = tally("test a::slow ... ignored, takes a minute\ntest b ... ignored\n");
        let skips: Vec<_> = tally
            .skipped
            .iter()
            .map(|skip| (skip.name.as_str(), skip.reason.as_str(), skip.required))
            .collect();
        assert_eq!(
            skips,
            [
                ("a::slow", "takes a minute", false),
                ("b", "ignored", false)
            ]
        );
    }

    #[test]
    fn a_test_that_skips_itself_has_not_passed() {
        let shown = "test lab::tcx ... ok\n\nsuccesses:\n\n---- lab::tcx stdout ----\n\
                     SKIP tcx: kernel older than 6.6\n";
        let uncaptured = "test lab::tcx ... SKIP tcx: kernel older than 6.6\nok\n";
        for output in [shown, uncaptured] {
            let tally = tally(&format!("{output}{CLOSING}"));
            assert_eq!(tally.passed(), 2, "{output}");
            assert_eq!(tally.skipped.len(), 1, "{output}");
            assert_eq!(tally.skipped[0].reason, "kernel older than 6.6");
            assert!(tally.skipped[0].required);
        }
    }

    #[test]
    fn failed_tests_are_named() {
        let tally = tally(&format!("test a ... ok\ntest b::c ... FAILED\n{CLOSING}"));
        let failures = vec![Failure::new("b::c".to_owned())];
        assert_eq!((tally.failed, tally.failures), (1, failures));
    }

    #[test]
    fn what_failed_tests_printed_is_kept() {
        let output = "test a ... ok\ntest b ... FAILED\ntest c ... FAILED\n\nsuccesses:\n\n\
                      ---- a stdout ----\nfine\n\nfailures:\n\n---- b stdout ----\nfor b\n\n\
                      ---- c stdout ----\nfor c\nmore\n\nfailures:\n    b\n    c\n\n";
        let tally = tally(&format!("{output}{CLOSING}test d ... ok\n"));
        let printed = tally.failures.iter().map(|failure| failure.output.concat());
        assert_eq!(printed.collect::<Vec<_>>(), ["for b", "for cmore"]);
    }

    #[test]
    fn a_skipped_case_does_not_take_its_test_away() {
        let output =
            format!("test rows ... ok\nSKIP (optional) row vlan-2: no VLAN here\n{CLOSING}");
        let tally = tally(&output);
        assert_eq!((tally.passed(), tally.skipped.len()), (3, 1));
        assert!(!tally.skipped[0].required);
    }

    #[test]
    fn prose_that_mentions_skipping_is_not_a_skip() {
        assert_eq!(tally("SKIP\nnot SKIP a: b\nSKIP this\n"), Tally::default());
    }
}
