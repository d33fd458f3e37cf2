//! How the values of the file are read: as the command line reads them, and in its words.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use steer_common::abi::{HookMode, HookOrder, TUNNEL_ID_MAX, TunnelId};

use crate::plan::{self, HookChoice, IdleSpec, MarkMask, RouteLabel, WEIGHT_MAX};

/// The largest flow table.
pub(super) const MAX_FLOWS_MAX: u32 = crate::cli::MAX_FLOWS_MAX;
/// The largest tier.
pub(super) const TIER_MAX: u32 = 255;
/// The MTUs that a tunnel may have.
pub(super) const MTU_MIN: u32 = 576;
pub(super) const MTU_MAX: u32 = 65_535;
/// Probes, and answers, that make a difference.
pub(super) const COUNT_MAX: u32 = 100;
/// Multiples of a usual time.
pub(super) const MULTIPLE_MAX: f64 = 1_000.0;

/// `false`, or `true` or a table that says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    /// `false`.
    Off,
    /// `true` or a table.
    On(T),
}

impl<T: Default> Default for Switch<T> {
    fn default() -> Self {
        Self::On(T::default())
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfSwitch<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for OfSwitch<T> {
            type Value = Switch<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a table")
            }

            fn visit_bool<E>(self, on: bool) -> Result<Switch<T>, E> {
                Ok(if on { Switch::default() } else { Switch::Off })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Switch::On)
            }
        }
        deserializer.deserialize_any(OfSwitch(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Switch", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, table] })
    }
}

/// What is written as text or as a number, and read as text.
pub(super) struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfWord;
        impl Visitor<'_> for OfWord {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(OfWord)
    }
}

impl JsonSchema for Word {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

impl<'de> Deserialize<'de> for RouteLabel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Word(text) = Word::deserialize(deserializer)?;
        let is_number = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
        match text.parse() {
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if is_number => Err(D::Error::custom(format!(
                "{text:?} is neither a name nor a number"
            ))),
            Err(_) => Ok(Self::Name(text)),
        }
    }
}

impl JsonSchema for RouteLabel {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RouteLabel".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Word::json_schema(generator)
    }
}

/// How to steer.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HookWord {
    Auto,
    Ingress,
    Egress,
    Mark,
}

/// Where to stand.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OrderWord {
    First,
    Last,
}

/// Idle times: 1 second to 30 days, like 2h4m.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct IdleTable {
    /// TCP; 2h4m if not given.
    #[serde(deserialize_with = "idle_time")]
    #[schemars(with = "String")]
    tcp: Option<Duration>,
    /// TCP after FIN or RST; 30s if not given.
    #[serde(deserialize_with = "idle_time")]
    #[schemars(with = "String")]
    closing: Option<Duration>,
    /// UDP and UDP-Lite; 5m if not given.
    #[serde(deserialize_with = "idle_time")]
    #[schemars(with = "String")]
    udp: Option<Duration>,
    /// All other protocols; 60s if not given.
    #[serde(deserialize_with = "idle_time")]
    #[schemars(with = "String")]
    other: Option<Duration>,
}

pub(super) fn hook<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HookChoice>, D::Error> {
    Ok(Some(match HookWord::deserialize(from)? {
        HookWord::Auto => HookChoice::Auto,
        HookWord::Ingress => HookChoice::Mode(HookMode::Ingress),
        HookWord::Egress => HookChoice::Mode(HookMode::Egress),
        HookWord::Mark => HookChoice::Mode(HookMode::Mark),
    }))
}

pub(super) fn order<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HookOrder>, D::Error> {
    Ok(Some(match OrderWord::deserialize(from)? {
        OrderWord::First => HookOrder::First,
        OrderWord::Last => HookOrder::Last,
    }))
}

pub(super) fn idle<'de, D: Deserializer<'de>>(from: D) -> Result<IdleSpec, D::Error> {
    let table = IdleTable::deserialize(from)?;
    Ok(IdleSpec {
        all: None,
        tcp: table.tcp,
        closing: table.closing,
        udp: table.udp,
        other: table.other,
    })
}

fn idle_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    let spec: IdleSpec = text.parse().map_err(D::Error::custom)?;
    // `tcp=2h` is for the command line.
    let time = spec.all.filter(|_| !text.contains(','));
    let wrong = || D::Error::custom(format!("idle time {text:?} is not a time"));
    time.map(Some).ok_or_else(wrong)
}

/// Whatever the command line reads from a text.
pub(super) fn word<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let Word(text) = Word::deserialize(from)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

pub(super) fn mark_mask<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MarkMask>, D::Error> {
    // A number would be decimal here and hexadecimal there.
    let text = Cow::<str>::deserialize(from)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

pub(super) fn seed<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Word(text) = Word::deserialize(from)?;
    plan::seed(&text).map(Some).map_err(D::Error::custom)
}

pub(super) fn group_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    plan::group_name(&text).map_err(D::Error::custom)
}

pub(super) fn device_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    plan::device_name(&text).map_err(D::Error::custom)
}

pub(super) fn device_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    /// So that an error is of the one element.
    #[derive(serde::Deserialize)]
    struct Name(#[serde(deserialize_with = "device_name")] String);
    let names = Vec::<Name>::deserialize(from)?;
    Ok(names.into_iter().map(|Name(name)| name).collect())
}

pub(super) fn prefixes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Prefix(#[serde(deserialize_with = "prefix")] IpNet);
    let prefixes = Vec::<Prefix>::deserialize(from)?;
    Ok(prefixes.into_iter().map(|Prefix(prefix)| prefix).collect())
}

fn prefix<'de, D: Deserializer<'de>>(from: D) -> Result<IpNet, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    plan::prefix(&text).map_err(|error| match error.hint() {
        Some(hint) => D::Error::custom(format!("{error}\n{hint}")),
        None => D::Error::custom(error),
    })
}

pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    let wrong = |_| D::Error::custom(format!("{text:?} is not an IP address"));
    text.parse().map(Some).map_err(wrong)
}

pub(super) fn interval<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    let interval = plan::health::interval(&text);
    interval.map(Some).map_err(D::Error::custom)
}

pub(super) fn share<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    fraction(from, 0.0, 1.0)
}

pub(super) fn multiple<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    fraction(from, 1.0, MULTIPLE_MAX)
}

/// A number above one limit and up to another.
fn fraction<'de, D: Deserializer<'de>>(
    from: D,
    min: f64,
    max: f64,
) -> Result<Option<f64>, D::Error> {
    let number = f64::deserialize(from)?;
    if number > min && number <= max {
        return Ok(Some(number));
    }
    let message = format!("{number} is not above {min} and up to {max}");
    Err(D::Error::custom(message))
}

/// A number within limits.
fn ranged<'de, D: Deserializer<'de>>(from: D, min: u32, max: u32) -> Result<u32, D::Error> {
    struct Limits(u32, u32);
    impl Visitor<'_> for Limits {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a number from {} to {}", self.0, self.1)
        }

        fn visit_i64<E: Error>(self, given: i64) -> Result<u32, E> {
            let Self(min, max) = self;
            let number = u32::try_from(given).ok();
            let in_range = number.filter(|number| (min..=max).contains(number));
            in_range.ok_or_else(|| E::custom(format!("{given} is not in {min} to {max}")))
        }
    }
    from.deserialize_i64(Limits(min, max))
}

pub(super) fn max_flows<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    ranged(from, 1, MAX_FLOWS_MAX).map(Some)
}

pub(super) fn weight<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    ranged(from, 0, WEIGHT_MAX)
}

pub(super) fn tier<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    ranged(from, 0, TIER_MAX)
}

pub(super) fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TunnelId>, D::Error> {
    let id = ranged(from, 0, TUNNEL_ID_MAX.into())?;
    Ok(TunnelId::try_from(id).ok())
}

pub(super) fn mtu<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    ranged(from, MTU_MIN, MTU_MAX).map(Some)
}

pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    ranged(from, 1, COUNT_MAX).map(Some)
}
