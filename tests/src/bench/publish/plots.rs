//! Plots: a bar for each system, with its quartiles.

use anyhow::{Context as _, Result, anyhow};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::blocks::Runs;
use crate::bench::{
    Group, Report, Series, cost,
    report::Figure,
    side_by_side::{self, Cell},
};

/// A plot: its file, the figure, what it says, and its sections.
struct Plot {
    file: &'static str,
    figure: &'static str,
    title: &'static str,
    sections: &'static [Section],
    bar: Bar,
}

/// A heading, and the group below it; or what the group has more than another.
struct Section {
    heading: &'static str,
    group: &'static str,
    less: Option<&'static str>,
}

/// What is shown of a system.
#[derive(Clone, Copy)]
struct Bar {
    /// How long the bar is.
    length: fn(&Figure) -> Option<f64>,
    /// From where to where the thin line goes.
    span: fn(&Figure) -> Option<(f64, f64)>,
    /// What stands behind the bar.
    label: Cell,
}

const RATIO: Bar = Bar {
    length: |figure| Some(figure.ratio?.median),
    span: |figure| figure.ratio.map(|ratio| (ratio.low, ratio.high)),
    label: side_by_side::ratio,
};
const MEDIAN: Bar = Bar {
    length: |figure| Some(figure.value.median),
    span: |figure| Some((figure.value.low, figure.value.high)),
    label: side_by_side::median,
};
const SECONDS: Bar = Bar {
    label: side_by_side::seconds,
    ..MEDIAN
};
const MEAN_AND_MAX: Bar = Bar {
    length: |figure| Some(figure.value.mean),
    span: |figure| Some((figure.value.mean, figure.value.max)),
    label: side_by_side::mean_and_max,
};

const PLOTS: [Plot; 7] = [
    Plot {
        file: "cost.svg",
        figure: "cost",
        title: "CPU per forwarded packet, as a multiple of a bare TC redirect",
        sections: &[section(
            "IPv4, 1,000 flows over 8 tunnels",
            "IPv4, 1000 flows, 8 tunnels, 1 prefix",
        )],
        bar: RATIO,
    },
    Plot {
        file: "cost-100000.svg",
        figure: "cost",
        title: "CPU per forwarded packet, as a multiple of a bare TC redirect",
        sections: &[section(
            "IPv4, 100,000 flows over 8 tunnels",
            "IPv4, 100000 flows, 8 tunnels, 1 prefix",
        )],
        bar: RATIO,
    },
    Plot {
        file: "removal.svg",
        figure: "stickiness",
        title: "% of live flows that changed their tunnel and did not have to",
        sections: &[Section {
            heading: "one of four tunnels is removed",
            group: "without NAT: a tunnel is removed, moved",
            less: Some("without NAT: a tunnel is removed, had to move"),
        }],
        bar: MEDIAN,
    },
    Plot {
        file: "balance.svg",
        figure: "balance",
        title: "flows on the busiest tunnel by an even share, mean / worst of all tries",
        sections: &[section(
            "10 flows over 4 tunnels",
            "10 flows, 4 tunnels: flows on the busiest tunnel by an even share",
        )],
        bar: MEAN_AND_MAX,
    },
    Plot {
        file: "goodput.svg",
        figure: "goodput",
        title: "goodput of 10 TCP flows over 8 tunnels, % of what the tunnels let through",
        sections: &[
            section(
                "client to server",
                "10 flows, 8 tunnels, client to server: goodput",
            ),
            section(
                "server to client",
                "10 flows, 8 tunnels, server to client: goodput",
            ),
        ],
        bar: MEDIAN,
    },
    Plot {
        file: "failover.svg",
        figure: "failover",
        title: "seconds until all flows of a tunnel that drops everything are answered again",
        sections: &[
            section("UDP", "UDP flows answered again"),
            section("TCP", "TCP flows answered again"),
        ],
        bar: SECONDS,
    },
    Plot {
        file: "scale.svg",
        figure: "scale",
        title: "milliseconds that a command of steer takes",
        sections: &[
            section("without flows", "commands without flows"),
            section(
                "with 1,048,576 live flows",
                "commands with 1,048,576 live flows",
            ),
        ],
        bar: MEDIAN,
    },
];

const fn section(heading: &'static str, group: &'static str) -> Section {
    Section {
        heading,
        group,
        less: None,
    }
}

/// File names and SVG texts of all plots.
pub(super) fn all(runs: &Runs) -> Result<Vec<(&'static str, String)>> {
    let draw = |plot: &Plot| {
        let text = plot.draw(runs.report(plot.figure)?)?;
        Ok((plot.file, text))
    };
    PLOTS.iter().map(draw).collect()
}

/// File names and SVG texts of one run's plots.
pub fn of(report: &Report) -> Result<Vec<(&'static str, String)>> {
    let plots = PLOTS.iter().filter(|plot| plot.figure == report.figure);
    plots
        .map(|plot| Ok((plot.file, plot.draw(report)?)))
        .collect()
}

impl Plot {
    fn draw(&self, report: &Report) -> Result<String> {
        let sections = self.sections.iter().map(|section| {
            let group = section.of(report);
            Ok((section.heading, group.with_context(|| self.file)?))
        });
        let sections = sections.collect::<Result<Vec<_>>>()?;
        bars(self.title, &sections, self.bar).map_err(|error| anyhow!("{}: {error}", self.file))
    }
}

impl Section {
    fn of(&self, report: &Report) -> Result<Group> {
        let find = |name: &str| {
            let group = report.groups.iter().find(|group| group.name == name);
            group.with_context(|| format!("{name}: not measured"))
        };
        let group = find(self.group)?;
        let mut shown = match self.less {
            Some(less) => minus(group, find(less)?)?,
            None => group.clone(),
        };
        shown.figures.retain(|figure| figure.name != cost::SOURCE);
        Ok(shown)
    }
}

/// What each system has more in one group than in another, in the same rounds.
fn minus(group: &Group, less: &Group) -> Result<Group> {
    let pairs = group.figures.iter().zip(&less.figures);
    let differences = pairs.map(|(one, other)| Series {
        name: one.name.clone(),
        rounds: (values(one).iter().zip(values(other)))
            .map(|(value, other)| value - other)
            .collect(),
    });
    let differences: Vec<_> = differences.collect();
    Group::unpaired(group.name.as_str(), &group.unit, &differences)
}

/// Its values, or the median of what was kept without them.
fn values(figure: &Figure) -> Vec<f64> {
    let values = figure.series().rounds;
    if values.is_empty() {
        vec![figure.value.median]
    } else {
        values
    }
}

const WIDTH: u32 = 760;
/// Where the bars begin, and how long the longest is.
const LEFT: i32 = 240;
const LONGEST: f64 = 380.0;
const LINE: i32 = 26;
const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHERS: RGBColor = RGBColor(0xa0, 0xa0, 0xa0);

fn bars(title: &str, sections: &[(&str, Group)], bar: Bar) -> Result<String> {
    let figures = || sections.iter().flat_map(|(_, group)| &group.figures);
    let ends =
        figures().flat_map(|figure| [(bar.length)(figure), (bar.span)(figure).map(|ends| ends.1)]);
    let most = ends.flatten().filter(|end| end.is_finite());
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    #[expect(clippy::cast_possible_truncation, reason = "at most the longest bar")]
    let at = |value: f64| LEFT + (value.clamp(0.0, most) / most * LONGEST).round() as i32;

    let lines = 2 + sections.len() + figures().count();
    let mut text = String::new();
    {
        let size = (WIDTH, u32::try_from(LINE * i32::try_from(lines)?)?);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        let font = ("sans-serif", 14).into_font().color(&BLACK);
        let right = font.pos(Pos::new(HPos::Right, VPos::Center));
        let left = font.pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(title, &left, (10, LINE))?;
        let mut y = LINE * 2;
        for (heading, group) in sections {
            area.draw_text(heading, &left, (LEFT, y))?;
            y += LINE;
            for figure in &group.figures {
                let length = (bar.length)(figure).filter(|length| length.is_finite());
                let end = length.map_or(LEFT, at);
                let color = if figure.name.starts_with("steer") {
                    OURS
                } else {
                    OTHERS
                };
                area.draw_text(&figure.name, &right, (LEFT - 8, y))?;
                let corners = [(LEFT, y - 8), (end, y + 8)];
                area.draw(&Rectangle::new(corners, color.filled()))?;
                let span = (bar.span)(figure).filter(|_| length.is_some());
                let (from, to) = span.map_or((end, end), |(low, high)| (at(low), at(high)));
                if from < to {
                    area.draw(&PathElement::new([(from, y), (to, y)], BLACK))?;
                }
                area.draw_text(&(bar.label)(figure), &left, (end.max(to) + 6, y))?;
                y += LINE;
            }
        }
        area.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(values: &[(&str, &[f64])]) -> Result<Group> {
        let series = values.iter().map(|(name, rounds)| Series {
            name: (*name).to_owned(),
            rounds: rounds.to_vec(),
        });
        Group::new("g", "ns", &series.collect::<Vec<_>>())
    }

    #[test]
    fn the_longest_bar_is_of_the_largest_value() -> Result<()> {
        let group = group(&[
            ("bare", &[1.0]),
            ("steer", &[2.0]),
            ("never", &[f64::INFINITY]),
        ])?;
        let text = bars("says", &[("all", group)], SECONDS)?;
        assert!(
            text.starts_with("<svg ") && text.contains("never"),
            "{text}"
        );
        let widths = text
            .lines()
            .filter(|line| line.starts_with("<rect"))
            .filter_map(|line| line.split_once("width=\"")?.1.split_once('"'))
            .map(|(width, _)| width)
            .collect::<Vec<_>>();
        assert_eq!(widths, ["760", "190", "380", "0"], "{text}");
        assert!(!text.contains("<polyline"), "{text}");
        Ok(())
    }

    #[test]
    fn a_spread_is_a_line() -> Result<()> {
        let group = group(&[("steer", &[1.0, 2.0, 4.0])])?;
        let text = bars("says", &[("all", group)], MEDIAN)?;
        assert!(text.contains("points=\"335,78 620,78 \""), "{text}");
        Ok(())
    }

    #[test]
    fn what_had_to_be_is_taken_off() -> Result<()> {
        let moved = group(&[("a", &[50.0, 52.0]), ("b", &[25.0, 20.0])])?;
        let least = group(&[("a", &[25.0, 26.0]), ("b", &[25.0, 20.0])])?;
        let more = minus(&moved, &least)?;
        let medians = more.figures.iter().map(|figure| figure.value.median);
        assert_eq!(medians.collect::<Vec<_>>(), [25.5, 0.0]);
        Ok(())
    }
}
