//! `steerctl`: the command line of steer.

use std::{io::Write as _, process::ExitCode};

use steer_user::{
    cli::{Cli, Refusal},
    commands,
};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::parse_from_args(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Refusal::Text(text)) => {
            // A reader that went away has seen enough.
            let _: std::io::Result<()> = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Refusal::Usage(error)) => {
            complain(&error.message, error.hint.as_deref());
            return ExitCode::from(USAGE);
        }
    };
    let level = match cli.verbose {
        0 => "warn,steer_user=info",
        1 => "info,steer_user=debug",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match commands::execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                complain(&failure.to_string(), failure.hint());
            }
            ExitCode::from(FAILED)
        }
    }
}

/// The one form of every error.
fn complain(message: &str, hint: Option<&str>) {
    eprintln!("steerctl: {message}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}
