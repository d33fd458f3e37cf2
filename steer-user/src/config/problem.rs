//! What is wrong with a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The key, as a path: `group.default.tunnel.wg0.weight`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// The likely cure.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, if it is one.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line);
        Self {
            path: None,
            problems,
        }
    }

    /// The same, of a file.
    #[must_use]
    pub fn of(self, path: &Path) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..self
        }
    }

    /// Each problem in a line: `/etc/steer/steer.toml:12: …`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let path = self
            .path
            .as_deref()
            .map(|path| format!("{}:", path.display()));
        let place = path.unwrap_or_else(|| "line ".into());
        self.problems
            .iter()
            .map(move |problem| format!("{place}{}: {problem}", problem.line))
    }

    /// The likely cure of the first.
    pub fn hint(&self) -> Option<String> {
        self.problems.first()?.hint.clone()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().next().unwrap_or_default())?;
        match self.problems.len() {
            0 | 1 => Ok(()),
            more => write!(f, " (and {} more)", more - 1),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What serde says of a key or a value, in our words, and the likely cure.
pub(super) fn in_our_words(message: &str) -> (String, Option<String>) {
    // A cure that a value's own error knew.
    if let Some((message, hint)) = message.split_once('\n') {
        return (message.to_owned(), Some(hint.to_owned()));
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, [given, known @ ..]) = (message.starts_with("unknown field"), &quoted[..]) {
        return (
            "unknown key".into(),
            Some(suggestion(given, known, "known keys")),
        );
    }
    if let (true, [given, known @ ..]) = (message.starts_with("unknown variant"), &quoted[..]) {
        let message = format!("{given:?}: no such choice");
        return (message, Some(suggestion(given, known, "choices")));
    }
    if let (true, [missing, ..]) = (message.starts_with("missing field"), &quoted[..]) {
        return (format!("`{missing}` is missing"), None);
    }
    let wrong = ["invalid type: ", "invalid value: "];
    let rest = wrong.iter().find_map(|start| message.strip_prefix(start));
    if let Some((found, wanted)) = rest.and_then(|rest| rest.split_once(", expected ")) {
        let found = if found == "map" { "a table" } else { found };
        let (wanted, hint) = match wanted {
            "a sequence" if found == "a table" => {
                ("an array of tables", Some("write [[…]] for […]".to_owned()))
            }
            "a sequence" => ("an array", None),
            "u8" | "u16" | "u32" | "u64" | "usize" => ("a number from 0", None),
            "i8" | "i16" | "i32" | "i64" | "isize" => ("a whole number", None),
            "f32" | "f64" => ("a number", None),
            "a boolean" => ("true or false", None),
            "a string" | "a borrowed string" => ("a text in quotes", None),
            wanted => (wanted, None),
        };
        return (format!("{found}, where {wanted} should be"), hint);
    }
    (message.to_owned(), None)
}

/// The known word that was probably meant, else all of them.
fn suggestion(given: &str, known: &[&str], what: &str) -> String {
    /// So many letters may be wrong.
    const ALIKE: usize = 2;
    let distance = |word: &str| strsim::osa_distance(given, word);
    let best = known.iter().min_by_key(|word| distance(word));
    let alike = best.filter(|word| distance(word) <= ALIKE.min(word.len() / 2));
    match alike {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("{what}: {}", known.join(", ")),
    }
}
