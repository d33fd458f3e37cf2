//! A private apt: its own sources, lists, cache and status. The system's are read, never written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    sources::{self, Format},
    work::remove_dir,
};
use crate::process::{capture, find_program, run_within, say};

/// Where a system's apt has its sources.
const SYSTEM: &str = "/etc/apt";
/// For what may wait for a dead network.
const LIMIT: Duration = Duration::from_mins(10);

/// A private apt in a directory.
pub(crate) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Makes the directory's configuration anew. Settings of the system, such as a proxy, hold here too.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        if find_program("apt-get").is_none() || find_program("dpkg-deb").is_none() {
            bail!("kernels are fetched by apt-get and dpkg-deb, which this machine has not");
        }
        for below in ["parts", "state", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(below)).with_context(|| dir.display().to_string())?;
        }
        fs::write(dir.join("status"), "")?;
        fs::write(
            dir.join("parts/vm.sources"),
            sources::derive(&system_sources()),
        )?;
        fs::write(dir.join("apt.conf"), configuration(&dir))?;
        Ok(Self { dir })
    }

    /// One without any configuration.
    #[cfg(test)]
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(self.dir.join("apt.conf"))
            .current_dir(&self.dir)
            .env("LC_ALL", "C");
        command
    }

    /// Fetches the lists. A suite that is not there is told, and the others are used.
    pub(crate) fn update(&self) {
        say(
            "vm",
            "fetching package lists for the kernels (own lists, 50 MB)",
        );
        let mut command = self.command("apt-get");
        command.args(["-qq", "update"]);
        if let Err(error) = run_quietly(&mut command) {
            // apt-get has said which.
            say("vm", &format!("some suites cannot be reached: {error:#}"));
        }
    }

    /// Names of packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = capture(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// What is known of these packages, as paragraphs of fields.
    pub(crate) fn show(&self, names: &[String]) -> Result<String> {
        capture(self.command("apt-cache").arg("show").args(names))
    }

    /// Downloads packages and unpacks them into `to`.
    pub(crate) fn unpack(&self, packages: &[String], to: &Path) -> Result<()> {
        let dir = self.dir.join("downloads");
        remove_dir(&dir)?;
        fs::create_dir_all(&dir)?;
        let mut download = self.command("apt-get");
        download
            .args(["-qq", "download"])
            .args(packages)
            .current_dir(&dir);
        run_quietly(&mut download)?;
        for entry in fs::read_dir(&dir)? {
            let package = entry?.path();
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&package).arg(to);
            run_quietly(&mut unpack)?;
        }
        remove_dir(&dir)
    }
}

/// Runs a program for some time at most. The tests' results are on our standard output: nothing else is.
fn run_quietly(command: &mut Command) -> Result<()> {
    run_within(command.stdin(Stdio::null()).stdout(Stdio::null()), LIMIT)
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    // Hooks of the system would tidy up its cache, and tell its desktop.
    format!(
        "#clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear DPkg::Post-Invoke;\n\
         Dir::Etc::SourceList \"/dev/null\";\n\
         Dir::Etc::SourceParts \"{dir}/parts\";\n\
         Dir::Etc::Preferences \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\n\
         Dir::State \"{dir}/state\";\n\
         Dir::State::Lists \"{dir}/lists\";\n\
         Dir::State::Status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::http::Timeout \"30\";\n\
         Acquire::https::Timeout \"30\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
    )
}

/// The texts of the system's sources, in apt's order.
fn system_sources() -> Vec<(Format, String)> {
    let system = Path::new(SYSTEM);
    let mut files = vec![system.join("sources.list")];
    let mut parts: Vec<_> = fs::read_dir(system.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    files.extend(parts);
    files
        .into_iter()
        .filter_map(|file| {
            let format = Format::of(file.file_name()?.to_str()?)?;
            Some((format, fs::read_to_string(file).ok()?))
        })
        .collect()
}
