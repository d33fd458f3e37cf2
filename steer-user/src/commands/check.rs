//! `steerctl check`: what is wrong with a configuration file, or what it would change.

use super::{Context, Failure, difference, outlook::Outlook, print, print_either, requirements};
use crate::{
    cli::CheckArgs,
    config::{self, Config, FileError},
    datapath::programs::AttachMode,
    net::Netlink,
    output::CheckReport,
};

/// `steerctl check`.
pub(super) async fn check(context: &Context, args: &CheckArgs) -> Result<(), Failure> {
    if args.schema {
        return print(config::schema().as_bytes());
    }
    let path = &args.file;
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
        compare(context, &config, &mut report).await?;
    }
    print_either(context, &report, || report.render())
}

/// Compares a configuration with what is steered now.
async fn compare(
    context: &Context,
    config: &Config,
    report: &mut CheckReport,
) -> Result<(), Failure> {
    let pins = &context.pins;
    let netlink = Netlink::connect()?;
    let _lock = pins.lock()?;
    let outlook = Outlook::of(pins, &netlink, &config.request(), AttachMode::Auto).await?;
    report.difference = difference::report(pins, &outlook)?;
    report.notes = outlook.plan.notes;
    Ok(())
}
