//! Where in the text something is.

use std::fmt::Write as _;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Problem, read};

/// A step from a table or array to what is in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Key(&'static str),
    Index(usize),
}

/// The path of a group.
pub(super) fn group(index: usize) -> Vec<Step> {
    vec![Step::Key("group"), Step::Index(index)]
}

/// The path of a tunnel.
pub(super) fn tunnel(of_group: usize, index: usize) -> Vec<Step> {
    let mut path = group(of_group);
    path.extend([Step::Key("tunnel"), Step::Index(index)]);
    path
}

/// A text, and where in it everything is.
pub(super) struct Places<'a> {
    pub(super) text: &'a str,
    pub(super) tree: &'a DeTable<'a>,
}

impl Places<'_> {
    /// A problem of what is there, or of the last part of the path that is.
    pub(super) fn problem(&self, path: &[Step], message: String, hint: Option<&str>) -> Problem {
        Problem {
            line: read::line(self.text, self.start(path)),
            key: dotted(path),
            message,
            hint: hint.map(ToOwned::to_owned),
        }
    }

    /// Whether there is something at the end of a path.
    pub(super) fn has(&self, path: &[Step]) -> bool {
        let mut steps = path.iter();
        let Some(Step::Key(first)) = steps.next() else {
            return false;
        };
        let first = self.tree.get(*first).map(Spanned::get_ref);
        let found = steps.try_fold(first, |value, step| {
            let next = match (step, value?) {
                (Step::Key(name), DeValue::Table(table)) => table.get(*name),
                (Step::Index(index), DeValue::Array(array)) => array.get(*index),
                _ => None,
            };
            next.map(|next| Some(next.get_ref()))
        });
        found.flatten().is_some()
    }

    fn start(&self, path: &[Step]) -> usize {
        let mut steps = path.iter();
        let Some(Step::Key(first)) = steps.next() else {
            return 0;
        };
        let Some((key, mut value)) = self.tree.get_key_value(*first) else {
            return 0;
        };
        let mut start = key.span().start;
        for step in steps {
            let next = match (step, value.get_ref()) {
                (Step::Key(name), DeValue::Table(table)) => {
                    let found = table.get_key_value(*name);
                    found.map(|(key, value)| (key.span().start, value))
                }
                (Step::Index(index), DeValue::Array(array)) => {
                    let found: Option<&Spanned<DeValue<'_>>> = array.get(*index);
                    found.map(|value| (value.span().start, value))
                }
                _ => None,
            };
            let Some(next) = next else { break };
            (start, value) = next;
        }
        start
    }
}

/// The keys of a path, without the indices.
fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        if let Step::Key(key) = step {
            let dot = if text.is_empty() { "" } else { "." };
            let _ = write!(text, "{dot}{key}");
        }
    }
    text
}
