//! From flags to a submission, and from a line of a file with flags behind it. A submission is put together as JSON, in which
//! what was not said is absent, and only then becomes a [`JobRequest`]: the same names and checks as on the wire.

use ffrtmp_api::{FieldError, JobRequest};
use serde_json::{Map, Value, json};

use super::args::{JobFlags, SubmitArgs};

/// Fields whose entries are merged rather than replaced.
const NESTED: [&str; 4] = [
    "parameters",
    "resource_limits",
    "wrapper_constraints",
    "node_labels",
];
/// Other names of fields.
const ALIASES: [(&str, &str); 2] = [("scenario_name", "scenario"), ("tenant", "tenant_id")];

/// What the flags say, and nothing else.
pub fn of_flags(args: &SubmitArgs) -> Map<String, Value> {
    let JobFlags {
        duration,
        bitrate,
        confidence,
        engine,
        encoder,
        queue,
        priority,
        classification,
        sla_eligible,
        cpu_limit,
        memory_limit,
        timeout,
        params,
        labels,
        slots,
        tenant,
        max_retries,
        hold,
    } = &args.job;
    let mut parameters: Map<_, _> = params
        .iter()
        .map(|(key, value)| (key.clone(), scalar(value)))
        .collect();
    // The predecessor's default 0 is no duration.
    put(
        &mut parameters,
        "duration",
        duration.filter(|seconds| *seconds > 0),
    );
    put(&mut parameters, "bitrate", bitrate.clone());
    let mut limits = Map::new();
    put(&mut limits, "max_cpu_percent", *cpu_limit);
    put(&mut limits, "max_memory_mb", *memory_limit);
    put(&mut limits, "timeout_sec", *timeout);
    let labels: Map<_, _> = labels
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let mut job = Map::new();
    put(&mut job, "scenario", args.scenario.clone());
    put(&mut job, "confidence", confidence.clone());
    put(&mut job, "engine", *engine);
    put(&mut job, "encoder", encoder.clone());
    put(&mut job, "queue", *queue);
    put(&mut job, "priority", *priority);
    put(&mut job, "classification", *classification);
    put(&mut job, "sla_eligible", *sla_eligible);
    put(&mut job, "slots", *slots);
    put(&mut job, "tenant_id", tenant.clone());
    put(&mut job, "max_retries", *max_retries);
    put(&mut job, "hold", hold.then_some(true));
    for (name, inner) in NESTED.into_iter().zip([parameters, limits, Map::new(), labels]) {
        put(&mut job, name, Some(inner).filter(|inner| !inner.is_empty()));
    }
    job
}

fn put(into: &mut Map<String, Value>, name: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        into.insert(name.to_owned(), json!(value));
    }
}

/// A number, true and false as such; any other text as text.
pub fn scalar(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// What a line says, and where it says nothing, what the flags say.
pub fn merged(line: Map<String, Value>, flags: &Map<String, Value>) -> Map<String, Value> {
    let mut job = flags.clone();
    for (name, value) in line {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
        let name = alias.map_or(name, |(_, field)| (*field).to_owned());
        match (job.get_mut(&name), value) {
            (Some(Value::Object(under)), Value::Object(over)) if NESTED.contains(&name.as_str()) => {
                under.extend(over);
            }
            (_, value) => {
                job.insert(name, value);
            }
        }
    }
    job
}

/// The submission, every field checked.
pub fn checked(job: Map<String, Value>) -> Result<JobRequest, Vec<FieldError>> {
    let parsed: Result<JobRequest, _> = serde_path_to_error::deserialize(Value::Object(job));
    let job = parsed.map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "job".to_owned() } else { path };
        vec![FieldError::new(field, error.into_inner().to_string())]
    })?;
    job.validate()?;
    Ok(job)
}

/// How an error of a field is told to somebody who typed a flag.
pub fn as_flag(error: &FieldError) -> String {
    let flag = match error.field.as_str() {
        "scenario" => "--scenario",
        "parameters.duration" => "--duration",
        "parameters.bitrate" => "--bitrate",
        "confidence" => "--confidence",
        "encoder" => "--encoder",
        "slots" => "--slots",
        "tenant_id" => "--tenant",
        "max_retries" => "--max-retries",
        "resource_limits.max_cpu_percent" => "--cpu-limit",
        "resource_limits.max_memory_mb" => "--memory-limit",
        "resource_limits.timeout_sec" => "--timeout",
        "idempotency_key" => "--idempotency-key",
        field => {
            let (outer, inner) = field.split_once('.').unwrap_or(("", field));
            return match outer {
                "parameters" => format!("--param {inner}: {}", error.message),
                "node_labels" => format!("--label {inner}: {}", error.message),
                _ => error.to_string(),
            };
        }
    };
    format!("{flag}: {}", error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_line_wins_over_the_flags_and_both_fill_parameters() {
        let flags = object(
            json!({"scenario": "720p-h264", "queue": "batch", "parameters": {"bitrate": "2M", "a": 1}}),
        );
        let line = object(json!({"scenario_name": "1080p-h264", "parameters": {"a": 2, "input": "x"}}));
        let job = checked(merged(line, &flags)).unwrap();
        assert_eq!(job.scenario, "1080p-h264");
        assert_eq!(job.queue, ffrtmp_api::Queue::Batch);
        assert_eq!(
            json!(job.parameters),
            json!({"bitrate": "2M", "a": 2, "input": "x"})
        );
    }

    #[test]
    fn errors_name_the_field_and_the_flag() {
        for (job, flag) in [
            (json!({"scenario": "1080x-h999"}), "--scenario: "),
            (
                json!({"scenario": "transcode", "parameters": {"bitrate": "fast"}}),
                "--bitrate: ",
            ),
            (json!({"scenario": "transcode", "slots": 0}), "--slots: "),
            (json!({"scenario": "transcode", "slots": "x"}), "--slots: "),
            (
                json!({"scenario": "transcode", "resource_limits": {"max_cpu_percent": 999_999}}),
                "--cpu-limit: ",
            ),
        ] {
            let errors = checked(object(job)).unwrap_err();
            let text = as_flag(&errors[0]);
            assert!(text.starts_with(flag), "{text}");
        }
    }

    #[test]
    fn numbers_and_switches_of_parameters_are_such() {
        assert_eq!(scalar("3"), json!(3));
        assert_eq!(scalar("true"), json!(true));
        for text in ["5M", "null", "[1]", "\"x\"", ""] {
            assert_eq!(scalar(text), json!(text));
        }
    }
}
