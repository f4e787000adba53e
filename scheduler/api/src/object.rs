//! Objects that are written as objects. The usual reading of a struct takes a list of its fields' values too, which no
//! schema tells and no client means.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// For `deserialize_with`: an object and nothing else.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(Object(PhantomData))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_list_of_values_is_no_object() {
        let read = |text: &str| serde_json::from_str::<crate::JobRequest>(text);
        assert!(read(r#"{"scenario":"transcode","resource_limits":{"max_memory_mb":5}}"#).is_ok());
        let error = read(r#"{"scenario":"transcode","resource_limits":[5]}"#).unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }
}
