//! Turns clap's errors into steer's: one line saying what is wrong, one `hint:`
//! line at most.

use std::error::Error;
use std::fmt;

use clap::error::ErrorKind;

use super::values::ChoiceError;
use crate::plan::ValueError;

/// Why a command line leads to no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Help or version was asked for: print this on stdout and exit 0.
    Text(String),
    /// The usage is wrong: print this on stderr and exit 2.
    Usage(UsageError),
}

/// Wrong usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// What is wrong, in one line.
    pub message: String,
    /// The likely cure, in one line.
    pub hint: Option<String>,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "steerctl: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

pub(super) fn refusal(error: &clap::Error) -> Refusal {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refusal::Text(text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Refusal::Usage(UsageError {
                message: "no command given".into(),
                hint: Some("see steerctl --help".into()),
            })
        }
        _ => Refusal::Usage(of_value(error).unwrap_or_else(|| of_text(&text))),
    }
}

/// An error of one of our own values speaks for itself.
fn of_value(error: &clap::Error) -> Option<UsageError> {
    let source = error.source()?;
    let hint = if let Some(value) = source.downcast_ref::<ValueError>() {
        value.hint()
    } else {
        source.downcast_ref::<ChoiceError>()?.hint()
    };
    Some(UsageError {
        message: source.to_string(),
        hint,
    })
}

/// Everything else is taken from clap's text: `error: …`, then tips, then the usage.
fn of_text(text: &str) -> UsageError {
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or(text);
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut hint = None;
    for line in text.lines().map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            hint = Some(tip.to_owned());
            break;
        }
        if let Some(usage) = line.strip_prefix("Usage: ") {
            hint = Some(format!("usage: {usage}"));
        }
    }
    UsageError {
        message,
        hint: hint.or_else(|| Some("see steerctl --help".into())),
    }
}
