//! The result of a run: one format for all figures, as JSON.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    machine,
    stats::{Series, Spread},
};

/// What one subcommand measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// The subcommand.
    pub figure: String,
    /// How it was measured, in a sentence or two.
    pub method: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the CPU.
    pub cpu: String,
    /// CPUs that the machine has.
    pub cpus: usize,
    /// When it was measured, in seconds since 1970.
    pub unix_secs: u64,
    /// Commit of steer that was built, with `+` behind it if files differ from it; empty where nobody knows.
    #[serde(default)]
    pub commit: String,
    /// What the machine says of its maker, or that it is a virtual one.
    #[serde(default)]
    pub machine: String,
    /// What the other systems are made of, and their versions.
    #[serde(default)]
    pub versions: Vec<String>,
    /// Interleaved rounds behind each figure; in `balance`, a round has many tries.
    pub rounds: usize,
    /// What the ports and hash seeds of all rounds follow from, where rounds differ in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What was asked for, if that is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What was measured together.
    pub groups: Vec<Group>,
    /// What could not be measured here, with the reason.
    pub left_out: Vec<String>,
}

/// Figures that were measured in the same rounds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// Unit of the values.
    pub unit: String,
    /// Which of them the others are compared with.
    pub baseline: String,
    /// One for each system.
    pub figures: Vec<Figure>,
}

/// One system's figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    /// The system.
    pub name: String,
    /// The value.
    pub value: Spread,
    /// The value as a multiple of the baseline's in the same round; none of a baseline that is zero
    /// or infinite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Spread>,
    /// The values themselves, in the order of the rounds; `None` is a time that did not end.
    #[serde(default)]
    pub rounds: Vec<Option<f64>>,
}

impl Group {
    /// Of these series, the first of which is the baseline: all were measured in the same rounds.
    pub fn new(name: impl Into<String>, unit: &str, series: &[Series]) -> Result<Self> {
        let mut group = Self::unpaired(name, unit, series)?;
        let baseline = &series[0];
        let is_measure = |value: &f64| *value > 0.0 && value.is_finite();
        if baseline.rounds.iter().all(is_measure) {
            for (figure, one) in group.figures.iter_mut().zip(series) {
                figure.ratio = Spread::of(&one.over(baseline));
            }
        }
        Ok(group)
    }

    /// The same without ratios: the series' values are not those of the same rounds.
    pub fn unpaired(name: impl Into<String>, unit: &str, series: &[Series]) -> Result<Self> {
        let baseline = series.first().context("nothing was measured")?;
        let figures = series.iter().map(|one| {
            let value = Spread::of(&one.rounds);
            let finite = |value: &f64| value.is_finite().then_some(*value);
            Ok(Figure {
                name: one.name.clone(),
                value: value.with_context(|| format!("{}: no rounds", one.name))?,
                ratio: None,
                rounds: one.rounds.iter().map(finite).collect(),
            })
        });
        Ok(Self {
            name: name.into(),
            unit: unit.to_owned(),
            baseline: baseline.name.clone(),
            figures: figures.collect::<Result<_>>()?,
        })
    }

    /// The median, over the rounds, of one system's value as a multiple of another's in the same round;
    /// `None` if one was not measured.
    pub fn ratio(&self, system: &str, than: &str) -> Option<f64> {
        let series = |name| {
            let figure = self.figures.iter().find(|figure| figure.name == name)?;
            Some(figure.series())
        };
        let ratios = series(system)?.over(&series(than)?);
        Spread::of(&ratios).map(|ratios| ratios.median)
    }
}

impl Figure {
    /// The values that it was made of.
    pub fn series(&self) -> Series {
        let values = self.rounds.iter();
        Series {
            name: self.name.clone(),
            rounds: values.map(|value| value.unwrap_or(f64::INFINITY)).collect(),
        }
    }
}

impl Report {
    /// An empty one, of this machine and now.
    pub fn new(figure: &str, method: impl Into<String>, rounds: usize) -> Self {
        let kernel = nix::sys::utsname::uname().map_or_else(
            |_| String::new(),
            |name| name.release().to_string_lossy().into_owned(),
        );
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            figure: figure.to_owned(),
            method: method.into(),
            kernel,
            cpu: cpu_model(&cpuinfo).unwrap_or_default().to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            commit: machine::commit(),
            machine: machine::maker(&cpuinfo),
            versions: machine::versions(),
            unix_secs: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            rounds,
            seed: None,
            filter: None,
            groups: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Reads what [`Report::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Writes it as JSON, and makes the directory.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        let text = a_line_for_each_figure(&serde_json::to_string_pretty(self)?);
        fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }
}

/// The same JSON, with all that is inside of a figure on one line.
fn a_line_for_each_figure(pretty: &str) -> String {
    /// How far the braces of a figure are indented: groups, one of them, its figures.
    const FIGURE: usize = 8;
    let mut text = String::new();
    for line in pretty.lines() {
        let word = line.trim_start();
        let indent = line.len() - word.len();
        let is_inside = indent > FIGURE || (indent == FIGURE && word.starts_with('}'));
        if !is_inside && !text.is_empty() {
            text.push('\n');
        }
        text += if is_inside { word } else { line };
    }
    text
}

/// The first model that `/proc/cpuinfo` names.
fn cpu_model(cpuinfo: &str) -> Option<&str> {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("model name"))
        .find_map(|line| Some(line.split_once(':')?.1.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, rounds: &[f64]) -> Series {
        Series {
            name: name.to_owned(),
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn the_first_series_is_the_baseline() -> Result<()> {
        let all = [
            series("limit", &[100.0, 200.0]),
            series("steer", &[125.0, 250.0]),
        ];
        let group = Group::new("both", "ns", &all)?;
        assert_eq!(group.baseline, "limit");
        let medians = group.figures.iter().map(|figure| {
            let ratio = figure.ratio.map(|ratio| ratio.median);
            (figure.value.median, ratio)
        });
        let expected = [(150.0, Some(1.0)), (187.5, Some(1.25))];
        assert_eq!(medians.collect::<Vec<_>>(), expected);
        let apart = Group::unpaired("both", "ns", &all)?;
        assert!(apart.figures.iter().all(|figure| figure.ratio.is_none()));
        Ok(())
    }

    #[test]
    fn nothing_is_a_multiple_of_zero_or_of_never() -> Result<()> {
        let never = [series("a", &[f64::INFINITY]), series("b", &[50.0])];
        assert_eq!(Group::new("down", "s", &never)?.figures[1].ratio, None);
        let group = Group::new("moved", "%", &[series("a", &[0.0]), series("b", &[50.0])])?;
        assert!(group.figures.iter().all(|figure| figure.ratio.is_none()));
        Ok(())
    }

    #[test]
    fn two_systems_are_compared_round_by_round() -> Result<()> {
        let all = [
            series("limit", &[1.0, 1.0, 1.0]),
            series("steer", &[10.0, 20.0, 90.0]),
            series("other", &[5.0, 20.0, 30.0]),
        ];
        let group = Group::new("all", "ns", &all)?;
        // The medians are alike; in the middle of the rounds, steer takes twice as long.
        assert_eq!(group.ratio("steer", "other"), Some(2.0));
        assert_eq!(group.ratio("steer", "nobody"), None);
        Ok(())
    }

    #[test]
    fn what_was_kept_before_can_still_be_read() -> Result<()> {
        let spread = r#"{"median": 1.0, "low": 1.0, "high": null, "mean": 1.0, "max": null}"#;
        let figure: Figure =
            serde_json::from_str(&format!(r#"{{"name": "a", "value": {spread}}}"#))?;
        assert!(figure.value.high.is_infinite());
        assert!(figure.rounds.is_empty() && figure.value.min.is_nan());
        Ok(())
    }

    #[test]
    fn what_is_written_can_be_read() -> Result<()> {
        let mut report = Report::new("failover", "by a clock", 1);
        let all = [series("a", &[1.0]), series("never", &[f64::INFINITY])];
        report.groups.push(Group::new("UDP", "s", &all)?);
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("new/failover.json");
        report.write(&path)?;
        assert_eq!(format!("{:?}", Report::read(&path)?), format!("{report:?}"));
        let text = fs::read_to_string(&path)?;
        let figures = text.lines().filter(|line| line.contains("\"rounds\": ["));
        assert_eq!(figures.count(), 2, "{text}");
        Ok(())
    }

    #[test]
    fn what_has_no_rounds_is_an_error_that_names_it() {
        let all = [series("limit", &[1.0]), series("steer", &[])];
        let error = Group::new("both", "ns", &all).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "steer: no rounds");
    }

    #[test]
    fn the_cpu_has_a_name() {
        let text = "processor\t: 0\nmodel name\t: A CPU\nmodel name\t: A CPU\n";
        assert_eq!(cpu_model(text), Some("A CPU"));
        assert_eq!(cpu_model(""), None);
    }
}
