//! The live table: weight, share, flows and rate of each tunnel, every second.
//!
//! On a terminal it is redrawn in place; elsewhere it is one line every two seconds.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use steer_tests::lab::{Status, Steer, TunnelStatus, wait};

use crate::text::{BOLD, DIM, GOOD, thousands};

/// Time between two looks at the counters.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two lines where nothing can be redrawn.
const EVERY_PLAIN: Duration = Duration::from_secs(2);

/// The table, and the counters it showed last.
pub(crate) struct View<'a> {
    steer: &'a Steer,
    terminal: bool,
    start: Instant,
    title: String,
    last: Option<(Instant, Status)>,
    drawn: usize,
}

impl<'a> View<'a> {
    /// A view of what `steer` does.
    pub(crate) fn new(steer: &'a Steer) -> Self {
        Self {
            steer,
            terminal: std::io::stdout().is_terminal(),
            start: Instant::now(),
            title: String::new(),
            last: None,
            drawn: 0,
        }
    }

    /// Says what happens from now on.
    pub(crate) fn title(&mut self, title: impl Into<String>) -> Result<()> {
        self.title = title.into();
        if !self.terminal {
            let secs = self.start.elapsed().as_secs();
            anstream::println!("[{secs:>3} s] {}", self.title);
            return Ok(());
        }
        match self.last.clone() {
            Some((_, status)) => self.draw(&status, &[]),
            None => self.tick(),
        }
    }

    /// Shows the table while `duration` passes.
    pub(crate) fn watch(&mut self, duration: Duration) -> Result<()> {
        self.during(|| wait::pause(duration))
    }

    /// Shows the table while `work` runs.
    pub(crate) fn during<T: Send>(&mut self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(work);
            while !thread.is_finished() {
                self.tick()?;
                std::thread::sleep(Duration::from_millis(20));
            }
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Looks at the counters and shows them, if it is time to.
    fn tick(&mut self) -> Result<()> {
        let every = if self.terminal { EVERY } else { EVERY_PLAIN };
        if self
            .last
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() < every)
        {
            return Ok(());
        }
        let (status, now) = (self.steer.status()?, Instant::now());
        let rates: Vec<_> = match &self.last {
            Some((at, before)) => rates(before, &status, now - *at),
            None => Vec::new(),
        };
        self.draw(&status, &rates)?;
        self.last = Some((now, status));
        Ok(())
    }

    fn draw(&mut self, status: &Status, rates: &[f64]) -> Result<()> {
        let mut out = anstream::stdout().lock();
        if !self.terminal {
            if !rates.is_empty() {
                let secs = self.start.elapsed().as_secs();
                writeln!(out, "[{secs:>3} s] {}", line(status.tunnels(), rates))?;
            }
            return Ok(());
        }
        let table = table(&self.title, status.tunnels(), rates);
        if self.drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        write!(out, "{table}")?;
        out.flush()?;
        self.drawn = table.lines().count();
        Ok(())
    }
}

/// Mbit/s of each tunnel, both directions together.
#[expect(clippy::cast_precision_loss, reason = "a shown rate")]
fn rates(before: &Status, after: &Status, time: Duration) -> Vec<f64> {
    let bytes = |t: &TunnelStatus| t.tx_bytes.unwrap_or(0) + t.rx_bytes.unwrap_or(0);
    after
        .tunnels()
        .iter()
        .map(|tunnel| {
            let old = before.tunnel(&tunnel.name).map_or(0, bytes);
            bytes(tunnel).saturating_sub(old) as f64 * 8.0 / 1e6 / time.as_secs_f64()
        })
        .collect()
}

fn table(title: &str, tunnels: &[TunnelStatus], rates: &[f64]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{BOLD}{title}{BOLD:#}");
    let _ = writeln!(
        text,
        "{DIM}{:<8} {:>6} {:>8} {:>8} {:>9} {:>10}  state{DIM:#}",
        "tunnel", "weight", "share", "flows", "new", "Mbit/s"
    );
    for (i, t) in tunnels.iter().enumerate() {
        let style = if t.admin == "active" { GOOD } else { DIM };
        let rate = rates
            .get(i)
            .map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1}"));
        let _ = writeln!(
            text,
            "{:<8} {:>6} {:>6.1} % {:>8} {:>9} {:>10}  {style}{}{style:#}",
            t.name,
            t.weight,
            t.share * 100.0,
            number(t.flows),
            number(t.new_flows),
            rate,
            t.admin,
        );
    }
    text
}

fn line(tunnels: &[TunnelStatus], rates: &[f64]) -> String {
    let cell = |(t, rate): (&TunnelStatus, &f64)| {
        let state = if t.admin == "active" {
            String::new()
        } else {
            format!(" {}", t.admin)
        };
        format!(
            "{}{state}: weight {}, share {:.1} %, {} flows, {rate:.1} Mbit/s",
            t.name,
            t.weight,
            t.share * 100.0,
            number(t.flows),
        )
    };
    tunnels
        .iter()
        .zip(rates)
        .map(cell)
        .collect::<Vec<_>>()
        .join(" | ")
}

fn number(n: Option<u64>) -> String {
    n.map_or_else(|| "–".into(), thousands)
}
