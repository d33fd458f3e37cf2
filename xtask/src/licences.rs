//! The licences of everything that steer is built from.
//!
//! Known vulnerabilities are not looked up here: that needs a network.
//! `cargo audit` and `cargo deny check advisories` do it.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::{process::capture, repo};

/// Licences that ask for no more than a notice. Another one is a decision, to
/// be made here and not by an update.
const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Fails with the name of every dependency whose licence is not allowed.
pub(crate) fn check() -> Result<()> {
    let metadata = capture(repo::cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let mut objections = Vec::new();
    for package in packages {
        let licence = package["license"].as_str();
        if let Err(reason) = judge(licence) {
            objections.push(format!(
                "{} {}: {reason}",
                package["name"].as_str().unwrap_or("?"),
                package["version"].as_str().unwrap_or("?"),
            ));
        }
    }
    if !objections.is_empty() {
        bail!("{}", objections.join("\n"));
    }
    Ok(())
}

/// Whether a package under this licence may be part of steer.
fn judge(licence: Option<&str>) -> Result<(), String> {
    let licence = licence.ok_or("it declares no licence")?;
    let expression = Expression::parse_mode(licence, ParseMode::LAX)
        .map_err(|e| format!("licence {licence:?}: {}", e.reason))?;
    if expression.evaluate(is_allowed) {
        Ok(())
    } else {
        Err(format!("licence {licence:?} is not among those allowed"))
    }
}

/// An exception such as LLVM's only adds to what may be done.
fn is_allowed(licence: &LicenseReq) -> bool {
    licence
        .license
        .id()
        .is_some_and(|id| ALLOWED.contains(&id.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_choice_is_enough_but_every_part_must_be_allowed() {
        assert_eq!(judge(Some("MIT OR GPL-2.0-only")), Ok(()));
        assert_eq!(judge(Some("Apache-2.0 WITH LLVM-exception OR MIT")), Ok(()));
        assert_eq!(judge(Some("(MIT OR Apache-2.0) AND Unicode-3.0")), Ok(()));
        assert_eq!(judge(Some("MIT/Apache-2.0")), Ok(()));
        assert!(judge(Some("MIT AND GPL-3.0-only")).is_err());
        assert!(judge(Some("LGPL-2.1-only")).is_err());
        assert!(judge(None).is_err());
    }
}
