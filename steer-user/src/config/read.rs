//! From text to a configuration, with the place of everything that is wrong.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::place::Places;
use super::{Config, ConfigError, Problem, check, problem};

/// Reads all of a configuration.
///
/// The first wrong key or value ends the reading of types, so it is noted, taken out, and what is
/// left is read again.
pub(super) fn read(text: &str) -> Result<Config, ConfigError> {
    let (mut tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problems = errors
            .iter()
            .map(|error| of_error(text, error, String::new()));
        return Err(ConfigError::new(problems.collect()));
    }
    let mut problems: Vec<(usize, Problem)> = Vec::new();
    loop {
        let error = match Config::deserialize(Deserializer::from(tree.clone())) {
            Ok(config) => {
                let places = Places {
                    text,
                    tree: tree.get_ref(),
                };
                // What is missing may have been taken out.
                let is_whole = problems.is_empty();
                let found = check::check(&config, &places, is_whole);
                if is_whole && found.is_empty() {
                    return Ok(config);
                }
                return Err(ConfigError::new(in_order(problems).chain(found).collect()));
            }
            Err(error) => error,
        };
        let removed = error.span().and_then(|span| remove(tree.get_mut(), &span));
        let is_last = removed.is_none();
        let mut path = removed.unwrap_or_default();
        path.reverse();
        let start = error.span().map_or(0, |span| span.start);
        problems.push((start, of_error(text, &error, path.join("."))));
        if is_last {
            break;
        }
    }
    Err(ConfigError::new(in_order(problems).collect()))
}

/// Problems in the order of what they are about.
fn in_order(mut problems: Vec<(usize, Problem)>) -> impl Iterator<Item = Problem> {
    problems.sort_by_key(|(start, _)| *start);
    problems.into_iter().map(|(_, problem)| problem)
}

fn of_error(text: &str, error: &Error, key: String) -> Problem {
    let start = error.span().map_or(0, |span| span.start);
    let (message, hint) = problem::in_our_words(error.message());
    Problem {
        line: line(text, start),
        key,
        message,
        hint,
    }
}

/// The line of a byte, from 1.
pub(super) fn line(text: &str, byte: usize) -> usize {
    let before = text.bytes().take(byte);
    before.filter(|byte| *byte == b'\n').count() + 1
}

/// Takes out what has this place, whether that is of its key or its value; its keys, the innermost
/// first.
fn remove(table: &mut DeTable<'_>, place: &Range<usize>) -> Option<Vec<String>> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        if let Some(path) = remove_within(value, place) {
            return Some(with(path, key));
        }
        if key.span() == *place || value.span() == *place {
            found = Some(key.clone());
        }
    }
    let key = found?;
    table.remove(&key);
    Some(with(Vec::new(), &key))
}

fn with(mut path: Vec<String>, key: &Spanned<std::borrow::Cow<'_, str>>) -> Vec<String> {
    path.push(key.get_ref().clone().into_owned());
    path
}

fn remove_within(value: &mut Spanned<DeValue<'_>>, place: &Range<usize>) -> Option<Vec<String>> {
    match value.get_mut() {
        DeValue::Table(table) => remove(table, place),
        DeValue::Array(array) => {
            let inside = array
                .iter_mut()
                .find_map(|value| remove_within(value, place));
            if inside.is_some() {
                return inside;
            }
            let index = array.iter().position(|value| value.span() == *place)?;
            let left = std::mem::replace(array, DeArray::new())
                .into_iter()
                .enumerate();
            *array = left
                .filter(|(at, _)| *at != index)
                .map(|(_, value)| value)
                .collect();
            Some(Vec::new())
        }
        _ => None,
    }
}
