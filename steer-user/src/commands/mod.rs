//! The verbs: what `steerctl` does, from the command line to the maps.

mod apply;
mod auto_weights;
mod carry_out;
mod change;
mod check;
mod daemon;
mod detach;
mod difference;
mod doctor;
mod drain;
mod events;
mod explain;
mod failure;
mod flow_moves;
mod follow;
mod health;
mod hooks;
mod idle;
mod journal;
mod machine;
mod manager;
mod outlook;
mod rebalance;
mod reload;
mod requirements;
mod routes;
mod routing;
mod running;
mod show;
mod snapshot;
mod start;
mod state;
mod stop;
mod surroundings;
mod sysctls;
mod tunnels;
mod wanted;

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
            Command::Run(args) => Box::pin(start::run(&context, &args)).await,
            Command::Attach(args) => start::attach(&context, &args).await,
            Command::Check(args) => check::check(&context, &args).await,
            Command::Detach(args) => detach::detach(&context, args.dry_run).await,
            Command::Status => show::status(&context).await,
            Command::Weights(args) => change::weights(&context, &args).await,
            Command::Drain(args) => drain::drain(&context, &args).await,
            Command::Undrain(args) => change::undrain(&context, &args),
            Command::Disable(args) => change::disable(&context, &args),
            Command::Enable(args) => change::enable(&context, &args),
            Command::Flows(args) => show::flows(&context, &args),
            Command::Events(args) => events::events(&context, &args).await,
            Command::Explain(args) => explain::explain(&context, &args).await,
            Command::Doctor(args) => doctor::doctor(&context, &args).await,
            Command::Tunnels(args) => tunnels::tunnels(&context, &args),
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
