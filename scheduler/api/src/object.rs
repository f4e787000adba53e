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

/// One that is written as an object.
struct Written<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

/// For `deserialize_with`: an object, or null.
pub fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let written = Option::<Written<T>>::deserialize(deserializer)?;
    Ok(written.map(|Written(value)| value))
}

/// For `deserialize_with`: a list of objects.
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let written = Vec::<Written<T>>::deserialize(deserializer)?;
    Ok(written.into_iter().map(|Written(value)| value).collect())
}

#[cfg(test)]
mod tests {
    fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(text: &str) {
        let error = serde_json::from_str::<T>(text).unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{text}: {error}");
    }

    #[test]
    fn a_list_of_values_is_no_object() {
        let good = r#"{"scenario":"transcode","resource_limits":{"max_memory_mb":5}}"#;
        assert!(serde_json::from_str::<crate::JobRequest>(good).is_ok());
        refused::<crate::JobRequest>(r#"{"scenario":"transcode","resource_limits":[5]}"#);
        refused::<crate::JobRequest>(r#"{"scenario":"transcode","wrapper_constraints":[5]}"#);
        refused::<crate::BatchRequest>(r#"{"jobs":[["transcode"]]}"#);
        refused::<crate::Heartbeat>(r#"{"load":[5.0]}"#);
        let key = r#""job_id":"018bcfe5-6800-7707-8707-070707070707","attempt":1,"epoch":1"#;
        let held = |progress: &str| format!(r#"{{"held":[{{{key},"progress":{progress}}}]}}"#);
        assert!(serde_json::from_str::<crate::Heartbeat>(&held(r#"{"percent":5}"#)).is_ok());
        refused::<crate::Heartbeat>(&held("[5.0]"));
        let report = |rest: &str| format!("{{{key},{rest}}}");
        refused::<crate::ReportRequest>(&report(r#""event":"progressed","progress":[5.0]"#));
        refused::<crate::ReportRequest>(&report(r#""event":"finished","result":["completed"]"#));
        for nested in [
            r#""usage":[1.0]"#,
            r#""energy":["rapl",1.0,1.0]"#,
            r#""exit":["success"]"#,
            r#""exit":{"kind":"signal","signal":9,"sender":["kernel"]}"#,
        ] {
            let result = format!(r#""event":"finished","result":{{"status":"failed",{nested}}}"#);
            refused::<crate::ReportRequest>(&report(&result));
        }
        let whole =
            r#""event":"finished","result":{"status":"failed","energy":null,"exit":{"kind":"success"}}"#;
        assert!(serde_json::from_str::<crate::ReportRequest>(&report(whole)).is_ok());
    }
}
