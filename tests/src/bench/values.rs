//! Values as they come, each for a group and a system.

use anyhow::Result;

use super::{Group, Series};

/// A value that one system gave in one round.
#[derive(Debug)]
pub(super) struct Value {
    /// The group that it is compared in.
    pub(super) group: String,
    /// Its unit.
    pub(super) unit: &'static str,
    /// How much of it.
    pub(super) amount: f64,
}

impl Value {
    pub(super) fn new(group: impl Into<String>, unit: &'static str, amount: f64) -> Self {
        Self {
            group: group.into(),
            unit,
            amount,
        }
    }
}

/// All values of a run, groups and systems in the order of their first one.
#[derive(Debug, Default)]
pub(super) struct Values {
    groups: Vec<(String, &'static str, Vec<Series>)>,
}

impl Values {
    /// Adds a value of a system.
    pub(super) fn add(&mut self, system: &str, value: Value) {
        let found = self
            .groups
            .iter()
            .position(|(name, ..)| *name == value.group);
        let index = found.unwrap_or_else(|| {
            self.groups.push((value.group, value.unit, Vec::new()));
            self.groups.len() - 1
        });
        let all = &mut self.groups[index].2;
        match all.iter_mut().find(|series| series.name == system) {
            Some(series) => series.rounds.push(value.amount),
            None => all.push(Series {
                name: system.to_owned(),
                rounds: vec![value.amount],
            }),
        }
    }

    /// The groups. In each round every system gave one value: the first system is the baseline of the others.
    pub(super) fn paired(&self) -> Result<Vec<Group>> {
        let groups = self.groups.iter();
        groups
            .map(|(name, unit, all)| Group::new(name.as_str(), unit, all))
            .collect()
    }

    /// The groups. The values of two systems do not belong together one by one.
    pub(super) fn unpaired(&self) -> Result<Vec<Group>> {
        let groups = self.groups.iter();
        groups
            .map(|(name, unit, all)| Group::unpaired(name.as_str(), unit, all))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Spread;

    #[test]
    fn rounds_are_collected_by_system() -> Result<()> {
        let mut values = Values::default();
        for (system, value) in [("a", 1.0), ("b", 2.0), ("a", 3.0)] {
            values.add(system, Value::new("moved", "%", value));
        }
        values.add("b", Value::new("broken", "%", 9.0));
        let groups = values.paired()?;
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].baseline, "a");
        let of_a = groups[0].figures[0].value;
        assert_eq!(Spread::of(&[1.0, 3.0]), Some(of_a));
        assert_eq!(groups[1].baseline, "b");
        assert!(groups[0].figures[1].ratio.is_some());
        assert!(values.unpaired()?[0].figures[1].ratio.is_none());
        Ok(())
    }
}
