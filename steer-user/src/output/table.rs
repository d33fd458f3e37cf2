//! Aligned columns, and numbers as people read them.

use std::fmt::Write;

use super::Colour;

/// How a cell stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// It does not.
    #[default]
    Plain,
    /// Someone should look at it.
    Warning,
    /// It does not work.
    Bad,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    right: bool,
    tone: Tone,
}

/// Text, aligned left.
pub(super) fn text(text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        ..Cell::default()
    }
}

/// A number, aligned right.
pub(super) fn number(number: &impl ToString) -> Cell {
    Cell {
        text: number.to_string(),
        right: true,
        tone: Tone::Plain,
    }
}

impl Cell {
    /// The same, standing out.
    pub(super) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// Text in a tone.
pub(super) fn paint(text: &str, tone: Tone, colour: Colour) -> String {
    match (colour, tone) {
        (Colour::Off, _) | (_, Tone::Plain) => text.to_owned(),
        (Colour::On, Tone::Warning) => format!("\x1b[33m{text}\x1b[0m"),
        (Colour::On, Tone::Bad) => format!("\x1b[1;31m{text}\x1b[0m"),
    }
}

/// Rows under a header, each line starting with `indent`. A header is aligned like the cells under it.
pub(super) fn render(header: &[&str], rows: &[Vec<Cell>], indent: &str, colour: Colour) -> String {
    let mut widths: Vec<usize> = header.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let mut out = String::new();
    let titles: Vec<Cell> = header
        .iter()
        .enumerate()
        .map(|(column, title)| Cell {
            text: (*title).to_owned(),
            right: rows
                .first()
                .and_then(|row| row.get(column))
                .is_some_and(|cell| cell.right),
            tone: Tone::Plain,
        })
        .collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = indent.to_owned();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let painted = paint(&cell.text, cell.tone, colour);
            line.push_str(&if cell.right {
                padding + &painted
            } else {
                painted + &padding
            });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `1.5 MB`: bytes in decimal units, three digits at most before the point.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    // In tenths of the unit, so that no rounding shows 1000.0.
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1_000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `2h4m`, `5m`, `12s`, `3d2h`: the two largest units.
pub(super) fn seconds(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut out = String::new();
    let mut rest = seconds;
    let mut units = 0;
    for (unit, size) in UNITS {
        let count = rest / size;
        rest %= size;
        if count == 0 && units == 0 {
            continue;
        }
        units += 1;
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(out, "{count}{unit}");
        }
        if units == 2 {
            break;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

/// `12.5 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(
            [0, 999, 1_000, 1_549, 999_999, 1_000_000, u64::MAX].map(bytes),
            [
                "0 B", "999 B", "1.0 kB", "1.5 kB", "999.9 kB", "1.0 MB", "18.4 EB"
            ]
        );
        assert_eq!(
            [0, 59, 60, 61, 7_440, 86_399, 86_400, 266_400].map(seconds),
            ["0s", "59s", "1m", "1m1s", "2h4m", "23h59m", "1d", "3d2h"]
        );
        assert_eq!(percent(0.125), "12.5 %");
    }

    #[test]
    fn colour_does_not_shift_columns() {
        let rows = vec![
            vec![text("wg0").toned(Tone::Bad), number(&7)],
            vec![text("wireguard"), number(&12_345)],
        ];
        let plain = render(&["NAME", "N"], &rows, "  ", Colour::Off);
        assert_eq!(
            plain,
            "  NAME           N\n  wg0            7\n  wireguard  12345\n"
        );
        let coloured = render(&["NAME", "N"], &rows, "  ", Colour::On);
        assert_eq!(
            coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", ""),
            plain
        );
        assert_ne!(coloured, plain);
    }
}
