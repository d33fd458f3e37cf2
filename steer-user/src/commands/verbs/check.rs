//! `steerctl check`: what is wrong with a configuration file, or what it would change.

use crate::{
    cli::CheckArgs,
    commands::{
        Context, Failure,
        carry::{
            difference,
            outlook::Outlook,
            running::{self, Running},
            wanted::Wanted,
        },
        print, print_either, requirements,
    },
    config::{self, FileError},
    datapath::programs::AttachMode,
    net::Netlink,
    output::CheckReport,
};

/// `steerctl check`.
pub(in crate::commands) async fn check(context: &Context, args: &CheckArgs) -> Result<(), Failure> {
    if args.schema {
        return print(config::schema().as_bytes());
    }
    let running = Running::of(&context.pins);
    let path = &running::file_or(args.file.as_deref(), running.as_ref());
    let config = match config::load(path) {
        Ok(config) => config,
        Err(FileError::Config(error)) => {
            let report = CheckReport::wrong(path, &error);
            print_either(context, &report, || report.render())?;
            return Err(match error.problems.len() {
                1 => Failure::plain(format!("{}: 1 problem", path.display())),
                count => Failure::plain(format!("{}: {count} problems", path.display())),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let mut report = CheckReport::valid(path, &config);
    // Whoever may not look at what is pinned may check a file all the same.
    if context.pins.is_used() && requirements::check()?.is_ok() {
        let (wanted, attach) = running::wanted_by(path, config, running.as_ref())?;
        compare(context, &wanted, attach, &mut report).await?;
    }
    print_either(context, &report, || report.render())
}

/// Compares what a configuration asks for with what is steered now.
async fn compare(
    context: &Context,
    wanted: &Wanted,
    attach: AttachMode,
    report: &mut CheckReport,
) -> Result<(), Failure> {
    let pins = &context.pins;
    let netlink = Netlink::connect()?;
    let _lock = pins.lock()?;
    let outlook = Outlook::of(pins, &netlink, wanted, attach).await?;
    report.difference = difference::report(pins, &outlook)?;
    report.notes = outlook.plan.notes;
    Ok(())
}
