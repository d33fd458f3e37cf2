//! How a verb fails: one line, and a hint where there is a likely cure.

use std::{fmt, io};

use crate::{
    commands::flows::stop::StopError,
    config::FileError,
    datapath::DatapathError,
    net::NetError,
    plan::{PlanError, RequirementError, TunnelsError},
};

/// Why a verb was not done.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(super) fn plain(message: String) -> Self {
        Self {
            message,
            hint: None,
        }
    }

    pub(super) fn new(message: impl Into<String>, hint: &str) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.to_owned()),
        }
    }

    /// A failure that the verb's own output has told.
    pub(super) fn told() -> Self {
        Self::plain(String::new())
    }

    /// Whether there is nothing left to say.
    pub fn is_told(&self) -> bool {
        self.message.is_empty()
    }

    /// The likely cure.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            message: error.to_string(),
            hint: None,
        }
    }
}

macro_rules! from_hinting {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self { message: error.to_string(), hint: error.hint() }
            }
        }
    )+};
}

from_hinting!(
    DatapathError,
    FileError,
    NetError,
    PlanError,
    StopError,
    TunnelsError
);

impl From<RequirementError> for Failure {
    fn from(error: RequirementError) -> Self {
        Self {
            message: error.to_string(),
            hint: Some(error.hint().into()),
        }
    }
}
