//! A submission: what a client asks for, checked field by field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scenario::{HARDWARE, bitrate};
use crate::{
    Classification, Codec, Engine, FieldError, Limits, Priority, Queue, ResourceLimits, Scenario,
    WrapperConstraints,
};

/// `POST /jobs`: one job. The predecessor's names, and a few more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobRequest {
    /// What to produce, for instance `1080p-h264`.
    #[serde(alias = "scenario_name")]
    pub scenario: String,
    /// Kept and shown; `auto` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<String>,
    /// Program to use.
    pub engine: Engine,
    /// Encoder to use, for instance `h264_nvenc`; only nodes that have it are given the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// What the job is for.
    pub classification: Classification,
    /// Whether the job counts towards the SLA; left out, the classification, queue and length decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sla_eligible: Option<bool>,
    /// Which line it stands in.
    pub queue: Queue,
    /// Order inside the line.
    pub priority: Priority,
    /// Free parameters. `duration` (seconds), `bitrate` (`5M`), `codec`, `hwaccel`, `engine` and `resource_limits` are
    /// checked; the node checks the rest.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Limits of the job.
    #[serde(deserialize_with = "crate::object")]
    pub resource_limits: ResourceLimits,
    /// Kept for the predecessor's clients; constraints count whether it is there or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper_enabled: Option<bool>,
    /// More limits of the job; where both name one, these win.
    #[serde(deserialize_with = "crate::object")]
    pub wrapper_constraints: WrapperConstraints,
    /// Tenant the job belongs to; its running cap counts it.
    #[serde(alias = "tenant", skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Kept and shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Tries after faults of the platform; the scheduler's `--max-retries` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Labels a node must have, all of them.
    pub node_labels: BTreeMap<String, String>,
    /// Slots of a node the job takes, 1 to 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Wait until somebody resumes it.
    pub hold: bool,
    /// The same key with the same body gives the same job again, for as long as the job is kept. In a batch each
    /// item has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// `POST /jobs/batch`: many jobs in one commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The jobs, 1 to 1000.
    #[serde(deserialize_with = "crate::objects")]
    pub jobs: Vec<JobRequest>,
}

/// What a job needs of a node. Equal needs are one class: the ready set, the blocklist and the history know classes.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(default)]
pub struct Needs {
    /// Program the job insists on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Encoder it insists on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Codec some encoder of the node must produce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// Hardware family of the encoder, for instance `nvenc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// A GPU of whatever kind.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gpu: bool,
    /// Labels the node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Slots it takes; 0 and 1 both mean one.
    pub slots: u32,
}

/// Words longer than this are refused in free fields.
const WORD_MOST: usize = 256;
/// Largest `parameters`, in bytes of JSON.
const PARAMETERS_MOST: usize = 64 << 10;
/// Longest run a submission may ask for: 30 days.
const DURATION_MOST_SEC: f64 = 30.0 * 86_400.0;

impl JobRequest {
    /// Checks every field and names each one that cannot be meant.
    pub fn validate(&self) -> Result<(), Vec<FieldError>> {
        let mut errors: Vec<FieldError> = [
            Scenario::parse(&self.scenario).err(),
            self.limits().err(),
            self.check_parameters().err(),
            short("confidence", self.confidence.as_deref()).err(),
            short("encoder", self.encoder.as_deref()).err(),
            short("tenant_id", self.tenant_id.as_deref()).err(),
            short("user_id", self.user_id.as_deref()).err(),
            short("idempotency_key", self.idempotency_key.as_deref()).err(),
            range("slots", self.slots, 1, 64).err(),
            range("max_retries", self.max_retries, 0, 100).err(),
            // 30 days, as for `duration`.
            range(
                "resource_limits.timeout_sec",
                self.resource_limits.timeout_sec,
                0,
                2_592_000,
            )
            .err(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if self.node_labels.len() > 16 {
            errors.push(FieldError::new("node_labels", "has more than 16 entries"));
        }
        for (label, value) in &self.node_labels {
            errors.extend(short(&format!("node_labels.{label}"), Some(value)).err());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The limits the job runs under: `wrapper_constraints` first, then `resource_limits`, then
    /// `parameters.resource_limits`.
    pub fn limits(&self) -> Result<Limits, FieldError> {
        let wrapper = self
            .wrapper_constraints
            .limits()
            .map_err(|error| error.within("wrapper_constraints"))?;
        let resources = self
            .resources()?
            .limits()
            .map_err(|error| error.within("resource_limits"))?;
        let limits = wrapper.or(&resources);
        limits
            .validate()
            .map_err(|error| FieldError::new("resource_limits", error.to_string()))?;
        Ok(limits)
    }

    /// `resource_limits` over `parameters.resource_limits`.
    pub fn resources(&self) -> Result<ResourceLimits, FieldError> {
        match self.parameters.get("resource_limits") {
            None => Ok(self.resource_limits),
            Some(value) => serde_json::from_value::<ResourceLimits>(value.clone())
                .map(|inner| self.resource_limits.or(inner))
                .map_err(|error| FieldError::new("parameters.resource_limits", error.to_string())),
        }
    }

    /// Seconds of media asked for, where the submission says.
    pub fn duration_sec(&self) -> Option<f64> {
        let value = self
            .parameters
            .get("duration")
            .or_else(|| self.parameters.get("duration_seconds"))?;
        value
            .as_f64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
    }

    /// The program asked for; `parameters.engine` counts where the field itself says nothing.
    pub fn asked_engine(&self) -> Engine {
        let inner = self
            .parameters
            .get("engine")
            .and_then(|value| value.as_str()?.parse().ok());
        match self.engine {
            Engine::Auto => inner.unwrap_or(Engine::Auto),
            asked => asked,
        }
    }

    /// What the job needs of a node.
    pub fn needs(&self) -> Needs {
        let scenario = Scenario::parse(&self.scenario).unwrap_or_default();
        let text = |key: &str| self.parameters.get(key).and_then(|value| value.as_str());
        let named = self.encoder.as_deref().or_else(|| text("codec"));
        let family = |name: &str| HARDWARE.iter().find(|family| name.contains(**family));
        let hardware = named
            .and_then(family)
            .map(|family| (*family).to_owned())
            .or(scenario.hardware);
        let hwaccel = text("hwaccel").is_some_and(|kind| !matches!(kind, "none" | "auto" | ""));
        Needs {
            engine: Some(self.asked_engine()).filter(|engine| *engine != Engine::Auto),
            encoder: self.encoder.clone(),
            codec: named.and_then(Codec::of).or(scenario.codec),
            gpu: hardware.is_some() || hwaccel,
            hardware,
            labels: self.node_labels.clone(),
            slots: self.slots.unwrap_or(1),
        }
    }

    fn check_parameters(&self) -> Result<(), FieldError> {
        let refuse = |key: &str, text: String| Err(FieldError::new(format!("parameters.{key}"), text));
        let size: usize = serde_json::to_string(&self.parameters).map_or(usize::MAX, |text| text.len());
        if size > PARAMETERS_MOST {
            return Err(FieldError::new(
                "parameters",
                format!("takes {size} bytes; at most {PARAMETERS_MOST}"),
            ));
        }
        for key in ["duration", "duration_seconds"] {
            if self.parameters.contains_key(key) {
                match self.duration_sec() {
                    Some(seconds) if (0.0..=DURATION_MOST_SEC).contains(&seconds) => {}
                    _ => return refuse(key, "write seconds, 0 to 2592000".to_owned()),
                }
            }
        }
        if let Some(value) = self.parameters.get("bitrate") {
            let known = match value {
                serde_json::Value::String(text) => text.is_empty() || bitrate(text).is_some(),
                other => other.as_u64().is_some_and(|bits| bits <= 100_000_000_000),
            };
            if !known {
                return refuse(
                    "bitrate",
                    format!("{value} is no bitrate; write for instance \"5M\""),
                );
            }
        }
        if let Some(value) = self.parameters.get("engine")
            && let Err(error) = value.as_str().unwrap_or_default().parse::<Engine>()
        {
            return refuse("engine", error.to_string());
        }
        Ok(())
    }
}

fn short(field: &str, text: Option<&str>) -> Result<(), FieldError> {
    match text {
        Some("") => Err(FieldError::new(field, "is empty; leave it out")),
        Some(text) if text.len() > WORD_MOST => Err(FieldError::new(
            field,
            format!("is longer than {WORD_MOST} bytes"),
        )),
        Some(text) if text.chars().any(char::is_control) => {
            Err(FieldError::new(field, "holds a control character"))
        }
        _ => Ok(()),
    }
}

fn range(field: &str, value: Option<u32>, low: u32, high: u32) -> Result<(), FieldError> {
    match value {
        Some(value) if !(low..=high).contains(&value) => Err(FieldError::new(
            field,
            format!("{value} is not possible; write {low} to {high}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> JobRequest {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_bodies_of_the_readmes_are_taken_whole() {
        let job = request(
            r#"{"scenario_name":"h264_nvenc_5mbps","encoder":"h264_nvenc","sla_eligible":true,
                "wrapper_constraints":{"cpu_quota_percent":200,"memory_limit_mb":4096,"nice_priority":-5}}"#,
        );
        job.validate().unwrap();
        assert_eq!(job.sla_eligible, Some(true));
        assert_eq!(job.limits().unwrap().nice, Some(-5));
        let needs = job.needs();
        assert_eq!(needs.encoder.as_deref(), Some("h264_nvenc"));
        assert_eq!((needs.codec, needs.gpu), (Some(Codec::H264), true));
        let job = request(
            r#"{"scenario":"1080p-h264","confidence":"auto","parameters":{"duration":300,"bitrate":"5M"},
                "resource_limits":{"max_cpu_percent":150,"max_memory_mb":1024,"timeout_sec":300}}"#,
        );
        job.validate().unwrap();
        assert_eq!(job.limits().unwrap().memory_max, Some(1024 << 20));
        assert_eq!(job.duration_sec(), Some(300.0));
    }

    #[test]
    fn every_bad_field_is_named() {
        for (text, field) in [
            ("{}", "scenario"),
            (r#"{"scenario":"1080p-h265x"}"#, "scenario"),
            (
                r#"{"scenario":"transcode","parameters":{"duration":-1}}"#,
                "parameters.duration",
            ),
            (
                r#"{"scenario":"transcode","parameters":{"bitrate":"fast"}}"#,
                "parameters.bitrate",
            ),
            (
                r#"{"scenario":"transcode","parameters":{"engine":"x"}}"#,
                "parameters.engine",
            ),
            (
                r#"{"scenario":"transcode","parameters":{"resource_limits":{"max_memory_mb":-1}}}"#,
                "parameters.resource_limits",
            ),
            (r#"{"scenario":"transcode","slots":0}"#, "slots"),
            (r#"{"scenario":"transcode","tenant_id":""}"#, "tenant_id"),
            (
                r#"{"scenario":"transcode","wrapper_constraints":{"nice":40}}"#,
                "wrapper_constraints.nice_priority",
            ),
        ] {
            let errors = request(text).validate().unwrap_err();
            assert!(
                errors.iter().any(|error| error.field == field),
                "{text}: {errors:?}"
            );
        }
        for text in [
            r#"{"queue":"urgent"}"#,
            r#"{"priority":1}"#,
            r#"{"engine":"vlc"}"#,
            r#"{"scenari":"x"}"#,
            r#"{"slots":-1}"#,
        ] {
            assert!(serde_json::from_str::<JobRequest>(text).is_err(), "{text}");
        }
    }
}
