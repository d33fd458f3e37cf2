//! The command `vm`: the tests that need root, on other kernels with WireGuard in the kernel.
//!
//! Each kernel is booted in an emulated machine with one first file system: busybox, this machine's
//! tools, the kernel's modules, the tests' binaries. Process 1 (`init.sh`) runs them and powers off.

mod apt;
mod boot;
mod cpio;
mod image;
mod kernels;
mod modules;
mod plan;
mod report;
mod request;
mod root;
mod sources;
mod version;
mod work;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

pub(crate) use request::{Request, VmArgs};
pub(crate) use sources::DEBIAN_KEYRING;

use crate::{
    compile::{self, Programs},
    libtest::Tally,
    process::say,
    setup::{self, Purpose},
    test,
};
use boot::Machine;
use kernels::{Cache, Kernel, NotOffered};
use report::Report;
use work::Work;

/// The command.
pub(crate) fn command(args: &VmArgs) -> Result<ExitCode> {
    let request = match Request::of(args) {
        Ok(request) => request,
        Err(message) => {
            eprintln!("xtask: {message}");
            return Ok(ExitCode::from(2));
        }
    };
    setup::ensure(Purpose::Vm)?;
    if args.shell {
        return shell(&request);
    }
    let (runs, tables) = run(&request);
    Ok(test::close(&runs, &tables, test::is_strict(args.no_skip)))
}

/// Runs the tests on the kernels, one after the other. Gives what they came to, and the tables.
pub(crate) fn run(request: &Request) -> (Vec<Tally>, String) {
    if let Some(missing) = missing() {
        return (vec![Tally::skipped_tier("vm", &missing)], String::new());
    }
    match reports(request) {
        Ok(reports) => {
            let tallies = reports.iter().flat_map(Report::tallies).collect();
            (tallies, report::tables(&reports))
        }
        Err(error) => (vec![Tally::failed_tier("vm", &error)], String::new()),
    }
}

fn reports(request: &Request) -> Result<Vec<Report>> {
    let work = Work::new()?;
    let _lock = work::lock(&work::dir().join("lock"), "the machines of target/vm")?;
    let programs = compile::programs()?;
    let targets: BTreeSet<_> = request
        .kernels
        .iter()
        .flat_map(|kernel| request.jobs(kernel))
        .map(|job| job.target)
        .collect();
    let targets = compile::tests(&Vec::from_iter(targets))?;
    let mut cache = Cache::open(request.update)?;
    let kernels: Vec<_> = request
        .kernels
        .iter()
        .map(|wanted| (wanted, cache.kernel(wanted)))
        .collect();
    // Others may fetch while these run.
    drop(cache);
    let base = image::base(&work)?;
    let mut reports = Vec::new();
    for (wanted, kernel) in kernels {
        let kernel = match kernel {
            Ok(kernel) => kernel,
            Err(error) => {
                reports.push(absent(wanted, &error, request.are_named));
                continue;
            }
        };
        let jobs = request.jobs(wanted);
        let mut report = Report::new(&kernel, &jobs);
        let tests = image::Purpose::Tests(&jobs, &targets);
        let machine = machine(request, &work, &base, kernel, &programs, &tests);
        match machine {
            Ok(machine) => one(&machine, &mut report),
            Err(error) => {
                say("vm", &format!("kernel {wanted}: {error:#}"));
                report.cut_short(&format!("{error:#}"));
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// A kernel that could not be had. Only one that nobody named may be missing from the archives.
fn absent(wanted: &str, error: &anyhow::Error, is_named: bool) -> Report {
    let reason = format!("{error:#}");
    let own = if error.is::<NotOffered>() && !is_named {
        say("vm", &format!("SKIPPED: kernel {wanted}: {reason}"));
        Tally::skipped_tier("vm", &reason)
    } else {
        say("vm", &format!("kernel {wanted}: {reason}"));
        Tally::failed_tier("vm", error)
    };
    Report::without(wanted, own)
}

/// The tests in one machine.
fn one(machine: &Machine, report: &mut Report) {
    let Kernel {
        wanted, version, ..
    } = &machine.kernel;
    say("vm", &format!("kernel {wanted} ({version})"));
    let started = Instant::now();
    let mut out = io::stdout().lock();
    let result = machine.run(report.patience(), |text| {
        // A reader who left does not end the tests.
        let _ = writeln!(
            out,
            "{:>6.1} {wanted}| {text}",
            started.elapsed().as_secs_f32(),
        );
        report.read(text)
    });
    drop(out);
    let reason = match result {
        Err(error) => Some(format!("{error:#}")),
        Ok(()) if !report.is_whole() => Some("the machine ended before its tests".to_owned()),
        Ok(()) => None,
    };
    if let Some(reason) = reason {
        let last_words = machine.last_words();
        say(
            "vm",
            &format!("kernel {wanted}: {reason}; its last words:\n{last_words}"),
        );
        report.cut_short(&reason);
    }
    report.read_console(&machine.messages());
    let seconds = started.elapsed().as_secs_f32();
    say("vm", &format!("kernel {wanted}: {seconds:.0} s"));
}

/// A prompt in a machine with a lab.
fn shell(request: &Request) -> Result<ExitCode> {
    if let Some(missing) = missing() {
        bail!("{missing}");
    }
    let work = Work::new()?;
    let programs = compile::programs()?;
    let kernel = Cache::open(request.update)?.kernel(&request.kernels[0])?;
    let base = image::base(&work)?;
    let machine = machine(
        request,
        &work,
        &base,
        kernel,
        &programs,
        &image::Purpose::Shell,
    )?;
    say("vm", "Ctrl-A X ends the machine; `exit` powers it off");
    machine.at_terminal()?;
    Ok(ExitCode::SUCCESS)
}

/// Why there can be no machine here.
fn missing() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("kernels are fetched for x86-64 only".into());
    }
    setup::missing_for_vm().map(|missing| format!("needs {missing}"))
}

/// A machine with everything that it needs on disk: in `target/vm/kept`, if it is to stay there.
fn machine(
    request: &Request,
    work: &Work,
    base: &Path,
    kernel: Kernel,
    programs: &Programs,
    purpose: &image::Purpose<'_>,
) -> Result<Machine> {
    let wanted = &kernel.wanted;
    let initramfs = if request.keep {
        let kept = work::dir().join("kept");
        fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
        kept.join(format!("{wanted}.initramfs"))
    } else {
        work.file("initramfs")
    };
    let console = match purpose {
        image::Purpose::Tests(..) => work::dir().join(format!("{wanted}.console")),
        // A prompt has no lock: others may run tests.
        image::Purpose::Shell => initramfs.with_extension("console"),
    };
    image::write(work, base, &kernel, programs, purpose, &initramfs)?;
    let machine = Machine {
        kernel,
        initramfs,
        console,
        accel: request.accel,
    };
    if request.keep {
        say("vm", &format!("to boot it again:\n    {}", machine.line()));
    }
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unnamed_kernel_may_be_missing() {
        let not_offered = anyhow::Error::from(NotOffered);
        let counts = |report: Report| {
            let tally = &report.tallies()[0];
            (tally.failed, tally.skipped.len())
        };
        assert_eq!(counts(absent("6.12", &not_offered, false)), (0, 1));
        assert_eq!(counts(absent("6.12", &not_offered, true)), (1, 0));
        let full = anyhow::anyhow!("no space left on device");
        assert_eq!(counts(absent("6.12", &full, false)), (1, 0));
    }
}
