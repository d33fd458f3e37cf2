//! What `bpftool` prints of the maps.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

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
