//! Which routes an operator wants to be followed, by names and numbers.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FollowRoutes, PlanError};
use crate::net::{ROUTE_TABLE_MAIN, RouteNames};

/// Which routes an operator wants to be followed; [`FollowSpec::resolve`] finds the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(description = "Which of the kernel's routes are followed.")]
pub struct FollowSpec {
    /// Their tables, by name or number; main if none is given.
    pub tables: Vec<RouteLabel>,
    /// Their protocols, by name or number; all but the kernel's own if none is given.
    pub protocols: Vec<RouteLabel>,
    /// Their largest metric.
    pub metric_max: Option<u32>,
}

/// A table or a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteLabel {
    /// By number.
    Number(u32),
    /// By name.
    Name(String),
}

impl FromStr for RouteLabel {
    type Err = std::convert::Infallible;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Ok(given
            .parse()
            .map_or_else(|_| Self::Name(given.to_owned()), Self::Number))
    }
}

impl FollowSpec {
    /// With numbers for the names.
    pub fn resolve(&self, names: &RouteNames) -> Result<FollowRoutes, PlanError> {
        let table = |label: &RouteLabel| match label {
            RouteLabel::Number(number) => Ok(*number),
            RouteLabel::Name(name) => {
                number_of(name, &names.tables).ok_or_else(|| PlanError::NoSuchRouteTable {
                    name: name.clone(),
                    existing: all(&names.tables),
                })
            }
        };
        let protocol = |label: &RouteLabel| {
            let (number, name) = match label {
                RouteLabel::Number(number) => (Some(*number), number.to_string()),
                RouteLabel::Name(name) => (number_of(name, &names.protocols), name.clone()),
            };
            let number = number.and_then(|number| u8::try_from(number).ok());
            number.ok_or_else(|| PlanError::NoSuchRouteProtocol {
                name,
                existing: all(&names.protocols),
            })
        };
        let mut tables = self
            .tables
            .iter()
            .map(table)
            .collect::<Result<Vec<_>, _>>()?;
        if tables.is_empty() {
            tables.push(ROUTE_TABLE_MAIN);
        }
        Ok(FollowRoutes {
            tables,
            protocols: self
                .protocols
                .iter()
                .map(protocol)
                .collect::<Result<_, _>>()?,
            metric_max: self.metric_max,
        })
    }
}

fn number_of(name: &str, names: &[(String, u32)]) -> Option<u32> {
    names
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, number)| *number)
}

fn all(names: &[(String, u32)]) -> Vec<String> {
    names.iter().map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let names = RouteNames {
            tables: vec![("main".into(), 254), ("site".into(), 1_000)],
            protocols: vec![("bird".into(), 12), ("far".into(), 300)],
        };
        let labels = |texts: &[&str]| texts.iter().map(|t| t.parse().expect("any")).collect();
        let resolve = |tables: &[&str], protocols: &[&str]| {
            let spec = FollowSpec {
                tables: labels(tables),
                protocols: labels(protocols),
                metric_max: Some(20),
            };
            spec.resolve(&names)
        };
        let found = resolve(&["site", "100"], &["bird", "186"]).expect("known");
        assert_eq!(found.tables, [1_000, 100]);
        assert_eq!(found.protocols, [12, 186]);
        assert_eq!(found.metric_max, Some(20));
        assert_eq!(resolve(&[], &[]).expect("defaults").tables, [254]);

        let refused = |tables: &[&str], protocols: &[&str]| {
            let error = resolve(tables, protocols).expect_err("refused");
            (error.to_string(), error.hint().unwrap_or_default())
        };
        assert_eq!(
            refused(&["mian"], &[]),
            (
                "route table mian: no such table".into(),
                "give its number, or one of: main, site".into()
            )
        );
        for protocol in ["256", "far", "brid"] {
            assert_eq!(
                refused(&[], &[protocol]),
                (
                    format!("route protocol {protocol}: no such protocol"),
                    "give its number, or one of: bird, far".into()
                )
            );
        }
    }
}
