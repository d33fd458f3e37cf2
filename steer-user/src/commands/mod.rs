//! What `steerctl` does, from the command line to the maps.

mod carry;
mod daemon;
mod failure;
mod flows;
mod owned;
mod requirements;
mod routes;
mod state;
mod verbs;

use std::io::Write as _;

pub use failure::Failure;

use crate::{
    cli::{self, Cli, Command},
    datapath::pins::PinDir,
    net,
    output::{self, Colour},
};

/// What every verb needs.
struct Context {
    pins: PinDir,
    json: bool,
}

/// Does what the command line says.
pub fn execute(cli: Cli) -> Result<(), Failure> {
    // Before any thread or socket: both belong to a network namespace.
    if let Some(name) = &cli.netns {
        net::enter_netns(name)?;
    }
    let context = Context {
        pins: PinDir::new(std::path::absolute(&cli.pin_dir)?),
        json: cli.json,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)?;
    runtime.block_on(async {
        match cli.command {
            // A daemon's state is too large for the stack.
            Command::Run(args) => Box::pin(verbs::start::run(&context, &args)).await,
            Command::Attach(args) => verbs::start::attach(&context, &args).await,
            Command::Check(args) => verbs::check::check(&context, &args).await,
            Command::Detach(args) => verbs::detach::detach(&context, args.dry_run).await,
            Command::Status => verbs::show::status(&context).await,
            Command::Weights(args) => verbs::change::weights(&context, &args).await,
            Command::Drain(args) => verbs::drain::drain(&context, &args).await,
            Command::Undrain(args) => verbs::change::undrain(&context, &args),
            Command::Disable(args) => verbs::change::disable(&context, &args),
            Command::Enable(args) => verbs::change::enable(&context, &args),
            Command::Flows(args) => verbs::show::flows(&context, &args),
            Command::Events(args) => verbs::events::events(&context, &args).await,
            Command::Explain(args) => verbs::explain::explain(&context, &args).await,
            Command::Doctor(args) => verbs::doctor::doctor(&context, &args).await,
            Command::Tunnels(args) => verbs::tunnels::tunnels(&context, &args),
            Command::Completions { shell } => print(&cli::completions(shell)),
            Command::Man => print(&cli::manual()?),
        }
    })
}

/// Writes to stdout. A reader that went away is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    print_to_reader(bytes).map(drop)
}

/// Writes to stdout; whether anybody still reads there.
fn print_to_reader(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes one line to stdout.
fn print_line(line: &str) -> Result<(), Failure> {
    print(format!("{line}\n").as_bytes())
}

/// Colours only for people who see them.
fn colour() -> Colour {
    use std::io::IsTerminal as _;
    let is_wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if is_wanted { Colour::On } else { Colour::Off }
}

/// Writes JSON or, for people, a text.
fn print_either(
    context: &Context,
    value: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if context.json {
        print(
            output::json(value)
                .map_err(std::io::Error::from)?
                .as_bytes(),
        )
    } else {
        print(text().as_bytes())
    }
}
