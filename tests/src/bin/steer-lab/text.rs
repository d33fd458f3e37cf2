//! How numbers, steps and emphasis look.

use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

/// For headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// For what is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// For what is of less interest.
pub(crate) const DIM: Style = Style::new().dimmed();

/// `10,000`
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3:1:1`
pub(crate) fn ratio(weights: &[u32]) -> String {
    weights
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(":")
}

/// Runs a step that takes a while: a spinner on a terminal, then a line with the time it took.
pub(crate) fn step<T>(
    what: &str,
    work: impl FnOnce() -> anyhow::Result<(T, String)>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    let spinner = ProgressBar::new_spinner()
        .with_style(ProgressStyle::default_spinner())
        .with_message(format!("{what} …"));
    spinner.enable_steady_tick(Duration::from_millis(100));
    let result = work();
    spinner.finish_and_clear();
    let (value, outcome) = result?;
    let secs = start.elapsed().as_secs_f32();
    anstream::println!("{GOOD}✓{GOOD:#} {what}: {outcome} {DIM}({secs:.1} s){DIM:#}");
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(ratio(&[3, 1]), "3:1");
    }
}
