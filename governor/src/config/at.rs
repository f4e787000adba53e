//! Values that remember where in the file they stood, and the few value shapes YAML has that serde has not.
//!
//! Owns no rule of what is allowed; it only keeps the position until somebody finds fault with the value.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A value with the line and column (from 1) of its first character.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Line.
    pub(super) line: u64,
    /// Column, in characters.
    pub(super) column: u64,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
            value: spanned.value,
        })
    }
}

/// The position is no part of the schema.
impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A whole number or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Quantity {
    /// A bare number, in the unit of its key.
    Number(i64),
    /// A text.
    Text(String),
}

/// As it would stand in a message: texts in quotes.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

/// `true`, `false` or a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SwitchOrList {
    /// All or none.
    Switch(bool),
    /// These.
    List(Vec<String>),
}

/// Visits scalars; `what` says what was expected.
struct Scalar<T> {
    what: &'static str,
    kind: PhantomData<T>,
}

impl Visitor<'_> for Scalar<Quantity> {
    type Value = Quantity;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        Ok(Quantity::Number(number))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(i64::try_from(number).map_or_else(|_| Quantity::Text(number.to_string()), Quantity::Number))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        Ok(Quantity::Text(text.to_owned()))
    }
}

impl<'de> Visitor<'de> for Scalar<SwitchOrList> {
    type Value = SwitchOrList;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
    fn visit_bool<E: de::Error>(self, on: bool) -> Result<SwitchOrList, E> {
        Ok(SwitchOrList::Switch(on))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<SwitchOrList, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(SwitchOrList::List(list))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar {
            what: "a whole number or a text",
            kind: PhantomData::<Self>,
        })
    }
}

impl<'de> Deserialize<'de> for SwitchOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar {
            what: "true, false or a list of texts",
            kind: PhantomData::<Self>,
        })
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"] })
    }
}

impl JsonSchema for SwitchOrList {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SwitchOrList".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "array"], "items": { "type": "string" } })
    }
}
