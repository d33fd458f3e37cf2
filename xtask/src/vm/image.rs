//! What a machine boots: one archive that all kernels share, and one with what a kernel and its tests need.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    cpio::Archive,
    kernels::Kernel,
    modules,
    plan::Job,
    root,
    work::{Work, remove_dir},
};
use crate::{compile::Programs, process::quote};

/// By how much an emulated machine is slower than what the tests' limits are made for.
const SLOWNESS: u32 = 8;

/// What a machine is for.
pub(crate) enum Purpose<'a> {
    /// These runs of tests, and their programs.
    Tests(&'a [Job], &'a Programs),
    /// A prompt.
    Shell,
}

/// Writes what all kernels share.
pub(crate) fn base(work: &Work) -> Result<PathBuf> {
    let file = work.file("base.cpio");
    write_archive(&file, root::base)?;
    Ok(file)
}

/// Writes the first file system of one kernel to `to`.
pub(crate) fn write(
    work: &Work,
    base: &Path,
    kernel: &Kernel,
    programs: &Programs,
    purpose: &Purpose<'_>,
    to: &Path,
) -> Result<()> {
    let modules = work.file("modules");
    modules::collect(kernel, &modules)?;
    let payload = work.file("payload.cpio");
    let binaries = [
        programs.path("steerctl")?.clone(),
        programs.path("steer-lab")?.clone(),
    ];
    write_archive(&payload, |archive| {
        archive.copy_tree(&modules.join("lib/modules"), "usr/lib/modules")?;
        let environment = format!(
            "export STEERCTL={}/steerctl STEER_TEST_SLOWNESS={SLOWNESS}\n",
            root::PROGRAMS
        );
        archive.file("steer/environment", 0o644, environment.as_bytes())?;
        let tests = match purpose {
            Purpose::Tests(jobs, targets) => {
                archive.file("steer/plan", 0o644, plan(jobs).as_bytes())?;
                binaries_of(jobs, targets)?
            }
            Purpose::Shell => {
                archive.file("steer/shell", 0o644, &[])?;
                Vec::new()
            }
        };
        root::payload(archive, &binaries, &tests)
    })?;
    // The kernel unpacks archives one after the other.
    let mut out = File::create(to).with_context(|| to.display().to_string())?;
    for part in [base, &payload] {
        let mut part = File::open(part).with_context(|| part.display().to_string())?;
        io::copy(&mut part, &mut out).with_context(|| to.display().to_string())?;
    }
    remove_dir(&modules)
}

/// What process 1 reads: a line of shell for each run.
fn plan(jobs: &[Job]) -> String {
    let line = |job: &Job| {
        let arguments = job.arguments.iter().map(|word| quote(word.as_ref()));
        let arguments: Vec<_> = arguments.collect();
        format!(
            "job {} {} {}\n",
            job.target,
            job.limit_secs,
            arguments.join(" ")
        )
    };
    jobs.iter().map(line).collect()
}

fn binaries_of(jobs: &[Job], targets: &Programs) -> Result<Vec<(String, PathBuf)>> {
    let mut names: Vec<_> = jobs.iter().map(|job| job.target).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|target| Ok((target.to_owned(), targets.path(target)?.clone())))
        .collect()
}

fn write_archive(
    file: &Path,
    fill: impl FnOnce(&mut Archive<BufWriter<File>>) -> Result<()>,
) -> Result<()> {
    let out = File::create(file).with_context(|| file.display().to_string())?;
    let mut archive = Archive::new(BufWriter::new(out));
    fill(&mut archive)?;
    archive
        .finish()
        .with_context(|| file.display().to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        test::Tier,
        vm::plan::{Extent, jobs},
    };

    #[test]
    fn arguments_reach_the_tests_as_they_were_given() {
        let harness = ["a b".to_owned(), "*".to_owned()];
        let jobs = jobs("6.1", Some(Tier::Vm), Extent::Full, &harness);
        assert_eq!(
            plan(&jobs),
            "job vm 900 --show-output --test-threads=1 'a b' '*'\n"
        );
    }
}
