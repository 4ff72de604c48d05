//! A value of a card for which several forms are allowed, such as one file or a list of files.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value in the form in which it is written: a list has values `I`, a mapping is an `M`.
#[derive(Debug)]
pub(super) enum Form<I = IgnoredAny, M = IgnoredAny> {
    /// `null`, or nothing at all.
    Null,
    Text(String),
    /// A number, `true` or `false`, as a text.
    Number(String),
    List(Vec<I>),
    Mapping(M),
}

impl<I, M> Form<I, M> {
    /// The value in words: a text or a number itself, otherwise what it is.
    pub(super) fn shown(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Text(text) | Self::Number(text) => text,
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }

    /// The message that this form is not one of those that were `expected`.
    pub(super) fn instead_of(&self, expected: &str) -> String {
        let found = match self {
            Self::Text(text) | Self::Number(text) => format!("`{text}`"),
            other => other.shown().to_owned(),
        };
        format!("found {found}, expected {expected}")
    }
}

impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for Form<I, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm(PhantomData))
    }
}

struct AnyForm<I, M>(PhantomData<(I, M)>);

impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> Visitor<'de> for AnyForm<I, M> {
    type Value = Form<I, M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Form::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Form::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Form::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Form::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Form::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Form::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(Form::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map)).map(Form::Mapping)
    }
}
