//! What `bpftool` prints of the maps.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The dump of a map as text, by its number.
pub fn dump(map_id: u32) -> Result<String> {
    let output = Command::new("bpftool")
        .args(["map", "dump", "id", &map_id.to_string()])
        .output()
        .context("bpftool")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("bpftool map dump id {map_id}: {}", stderr.trim_end());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether there is a `bpftool`.
pub fn exists() -> bool {
    Command::new("bpftool").arg("version").output().is_ok()
}

/// What a dump shows of its first element: names of fields and variants as they are, numbers as `N`.
pub fn outline(dump: &str) -> Result<String> {
    let elements: Vec<Value> = serde_json::from_str(dump).context("a dump with names")?;
    let first = elements
        .into_iter()
        .min_by_key(|element| element["key"].to_string())
        .context("a dump with elements")?;
    Ok(serde_json::to_string_pretty(&without_numbers(first))? + "\n")
}

fn without_numbers(value: Value) -> Value {
    match value {
        Value::Number(_) => "N".into(),
        Value::Array(items) => match items.first() {
            Some(Value::Number(_)) => format!("{} × N", items.len()).into(),
            // One of the CPUs stands for all.
            _ => items.into_iter().take(1).map(without_numbers).collect(),
        },
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, field)| (name, without_numbers(field)))
            .collect(),
        other => other,
    }
}
