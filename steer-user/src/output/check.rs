//! What `check` found in a configuration file.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::DifferenceReport;
use crate::config::{Config, ConfigError, Problem};

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: String,
    /// Whether nothing is wrong with it.
    pub valid: bool,
    /// What is wrong with it.
    pub problems: Vec<ProblemReport>,
    /// How many groups it has; `null` when it is wrong.
    pub groups: Option<usize>,
    /// How many tunnels it names.
    pub tunnels: Option<usize>,
    /// How many prefixes it names.
    pub prefixes: Option<usize>,
    /// What would be decided on the way.
    pub notes: Vec<String>,
    /// How it differs from what is steered now; `null` when nothing is, or when that cannot be seen.
    pub difference: Option<DifferenceReport>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemReport {
    /// The line, from 1.
    pub line: usize,
    /// The key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The likely cure.
    pub hint: Option<String>,
}

impl ProblemReport {
    fn new(problem: &Problem) -> Self {
        Self {
            line: problem.line,
            key: problem.key.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl CheckReport {
    /// Of a file that is wrong.
    pub fn wrong(file: &Path, error: &ConfigError) -> Self {
        Self {
            file: file.display().to_string(),
            valid: false,
            problems: error.problems.iter().map(ProblemReport::new).collect(),
            groups: None,
            tunnels: None,
            prefixes: None,
            notes: Vec::new(),
            difference: None,
        }
    }

    /// Of a file that is right.
    pub fn valid(file: &Path, config: &Config) -> Self {
        let tunnels = config.groups.iter().map(|group| group.tunnels.len());
        let prefixes = config.groups.iter().map(|group| group.prefixes.len());
        Self {
            file: file.display().to_string(),
            valid: true,
            problems: Vec::new(),
            groups: Some(config.groups.len()),
            tunnels: Some(tunnels.sum()),
            prefixes: Some(prefixes.sum()),
            notes: Vec::new(),
            difference: None,
        }
    }

    /// For people: each problem in a line of its own.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            let _ = write!(out, "{}:{}: ", self.file, problem.line);
            if !problem.key.is_empty() {
                let _ = write!(out, "{}: ", problem.key);
            }
            out.push_str(&problem.message);
            if let Some(hint) = &problem.hint {
                let _ = write!(out, " ({hint})");
            }
            out.push('\n');
        }
        if let (Some(groups), Some(tunnels), Some(prefixes)) =
            (self.groups, self.tunnels, self.prefixes)
        {
            let number = |count: usize, what: &str| match count {
                1 => format!("1 {what}"),
                _ if what.ends_with('x') => format!("{count} {what}es"),
                _ => format!("{count} {what}s"),
            };
            let _ = writeln!(
                out,
                "{}: valid: {}, {}, {}",
                self.file,
                number(groups, "group"),
                number(tunnels, "tunnel"),
                number(prefixes, "prefix"),
            );
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        if let Some(difference) = &self.difference {
            out.push_str(&difference.render());
        }
        out
    }
}
