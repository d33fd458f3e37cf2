//! Several groups as one table: a line for each system, a column for each group. Medians have their quartiles
//! behind them, where these differ in what is shown: `1.36 (1.13–1.52)`.

use std::io::{Result, Write};

use super::{Group, Report, Spread, report::Figure};

/// What is shown together.
pub struct Table<'a> {
    /// What it says.
    pub title: String,
    /// Its columns.
    pub columns: Vec<Column<'a>>,
}

/// What is shown of a figure.
pub type Cell = fn(&Figure) -> String;

/// A column: its heading, the group, and what is shown of a figure.
pub struct Column<'a> {
    heading: String,
    group: &'a Group,
    cell: Cell,
}

impl<'a> Column<'a> {
    /// Of a group.
    pub fn new(group: &'a Group, heading: impl Into<String>, cell: Cell) -> Self {
        let heading = heading.into();
        Self {
            heading,
            group,
            cell,
        }
    }

    /// Of the group of this name, if it was measured.
    pub fn of(
        report: &'a Report,
        name: &str,
        heading: impl Into<String>,
        cell: Cell,
    ) -> Option<Self> {
        let group = report.groups.iter().find(|group| group.name == name)?;
        Some(Self::new(group, heading, cell))
    }

    /// What is shown of a system.
    fn text(&self, system: &str) -> String {
        let mut figures = self.group.figures.iter();
        let figure = figures.find(|figure| figure.name == system);
        figure.map_or_else(|| "-".to_owned(), self.cell)
    }

    /// What it takes on a terminal.
    fn width(&self, systems: &[&str]) -> usize {
        let texts = systems.iter().map(|system| self.text(system));
        let widths = texts.map(|text| text.chars().count());
        widths.fold(self.heading.chars().count().max(10), usize::max)
    }
}

impl<'a> Table<'a> {
    /// One group's values, and their ratios if it has any.
    pub fn of_one(group: &'a Group) -> Self {
        let mut columns = vec![Column::new(group, &group.unit, whole)];
        if group.figures.iter().any(|figure| figure.ratio.is_some()) {
            let heading = format!("by {}", group.baseline);
            columns.push(Column::new(group, heading, ratio));
        }
        Self {
            title: group.name.clone(),
            columns,
        }
    }

    /// Prints it, with the systems of all columns in the order of their first appearance; nothing without columns.
    pub fn print(&self, to: &mut impl Write) -> Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        let systems = self.systems();
        writeln!(to, "\n{}", self.title)?;
        write!(to, "  {:<32}", "")?;
        for column in &self.columns {
            write!(to, "  {:>1$}", column.heading, column.width(&systems))?;
        }
        writeln!(to)?;
        for name in &systems {
            write!(to, "  {name:<32}")?;
            for column in &self.columns {
                write!(to, "  {:>1$}", column.text(name), column.width(&systems))?;
            }
            writeln!(to)?;
        }
        Ok(())
    }

    /// The same as Markdown, after an empty line.
    pub fn markdown(&self) -> String {
        if self.columns.is_empty() {
            return String::new();
        }
        let row =
            |first: &str, cells: Vec<String>| format!("| {first} | {} |\n", cells.join(" | "));
        let of_columns =
            |text: &dyn Fn(&Column<'_>) -> String| self.columns.iter().map(text).collect();
        let mut text = format!("\n{}:\n\n", self.title);
        text += &row("", of_columns(&|column| column.heading.clone()));
        text += &row("---", of_columns(&|_| "---:".to_owned()));
        for name in self.systems() {
            text += &row(name, of_columns(&|column| column.text(name)));
        }
        text
    }

    fn systems(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for figure in self.columns.iter().flat_map(|column| &column.group.figures) {
            if !names.contains(&figure.name.as_str()) {
                names.push(&figure.name);
            }
        }
        names
    }
}

/// The median.
pub fn median(figure: &Figure) -> String {
    spread(&figure.value, |value| format!("{value:.1}"))
}

/// The median, where tenths say nothing.
pub fn whole(figure: &Figure) -> String {
    spread(&figure.value, |value| format!("{value:.0}"))
}

/// The median, where tenths say too little.
pub fn fine(figure: &Figure) -> String {
    spread(&figure.value, |value| format!("{value:.2}"))
}

/// The mean.
pub fn mean(figure: &Figure) -> String {
    format!("{:.1}", figure.value.mean)
}

/// The largest.
pub fn most(figure: &Figure) -> String {
    format!("{:.1}", figure.value.max)
}

/// The mean and the largest.
pub fn mean_and_max(figure: &Figure) -> String {
    format!("{:.2} / {:.2}", figure.value.mean, figure.value.max)
}

/// The median as a multiple of the baseline's.
pub fn ratio(figure: &Figure) -> String {
    let ratio = figure
        .ratio
        .map(|ratio| spread(&ratio, |value| format!("{value:.2}")));
    ratio.unwrap_or_else(|| "-".to_owned())
}

/// The median of times of which some may not have ended.
pub fn seconds(figure: &Figure) -> String {
    spread(&figure.value, time)
}

/// The longest of such times.
pub fn most_seconds(figure: &Figure) -> String {
    time(figure.value.max)
}

/// The median, and the quartiles if they look different.
fn spread(values: &Spread, text: impl Fn(f64) -> String) -> String {
    let [low, median, high] = [values.low, values.median, values.high].map(text);
    if low == median && median == high {
        median
    } else {
        format!("{median} ({low}–{high})")
    }
}

/// What did not end is infinite.
fn time(secs: f64) -> String {
    if secs.is_finite() {
        format!("{secs:.2}")
    } else {
        "never".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Series;

    fn group(name: &str, values: &[(&str, &[f64])]) -> Group {
        let series: Vec<_> = values
            .iter()
            .map(|(name, values)| Series {
                name: (*name).to_owned(),
                rounds: values.to_vec(),
            })
            .collect();
        Group::new(name, "s", &series).expect("there is a round")
    }

    #[test]
    fn medians_have_their_quartiles() {
        let never = f64::INFINITY;
        let group = group("all", &[("a", &[2.0, 2.0, 2.0]), ("b", &[2.5, 3.0, never])]);
        let texts = group.figures.iter().map(seconds).collect::<Vec<_>>();
        assert_eq!(texts, ["2.00", "3.00 (2.50–never)"]);
        let mut text = Vec::new();
        let one = Table::of_one(&group);
        one.print(&mut text).expect("memory does not fail");
        let text = String::from_utf8(text).expect("text");
        let words: Vec<_> = text.split_whitespace().collect();
        let expected = "all s by a a 2 1.00 b 3 (2–inf) 1.50 (1.25–inf)";
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn a_system_may_be_missing_in_a_column() {
        let groups = [
            group("UDP", &[("a", &[1.0]), ("b", &[f64::INFINITY])]),
            group("TCP", &[("b", &[2.0])]),
        ];
        let table = Table {
            title: "title".to_owned(),
            columns: groups
                .iter()
                .map(|group| Column::new(group, &group.name, seconds))
                .collect(),
        };
        let mut text = Vec::new();
        table.print(&mut text).expect("memory does not fail");
        let text = String::from_utf8(text).expect("text");
        let lines: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let expected: [&[&str]; 5] = [
            &[],
            &["title"],
            &["UDP", "TCP"],
            &["a", "1.00", "-"],
            &["b", "never", "2.00"],
        ];
        assert_eq!(lines, expected);
        let markdown = "\ntitle:\n\n|  | UDP | TCP |\n| --- | ---: | ---: |\n\
                        | a | 1.00 | - |\n| b | never | 2.00 |\n";
        assert_eq!(table.markdown(), markdown);
    }
}
