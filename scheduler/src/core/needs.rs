//! Whether a node can do a kind of work, and what it lacks.

use ffrtmp_api::{Codec, Engine, Needs, NodeInfo};

/// What `info` lacks for `needs`, each in a few words; empty when it can. What a node does not say of itself is not
/// held against it: a node that lists no encoders may still have them.
pub fn missing(needs: &Needs, info: &NodeInfo) -> Vec<String> {
    let mut missing = Vec::new();
    if let (Some(engine), Some(engines)) = (needs.engine, &info.engines)
        && !engines.iter().any(|has| *has == engine || *has == Engine::Auto)
    {
        missing.push(format!("engine {engine}"));
    }
    if let (Some(encoder), Some(encoders)) = (&needs.encoder, &info.encoders)
        && !encoders.contains(encoder)
    {
        missing.push(format!("encoder {encoder}"));
    }
    if let (Some(codec), Some(encoders)) = (needs.codec, &info.encoders)
        && !encoders.iter().any(|encoder| Codec::of(encoder) == Some(codec))
    {
        missing.push(format!("an encoder for {codec}"));
    }
    if needs.gpu && !info.has_gpu {
        missing.push("a GPU".to_owned());
    }
    if let Some(family) = &needs.hardware
        && info.has_gpu
        && !has_family(family, info)
    {
        missing.push(format!("{family} encoders"));
    }
    for (label, value) in &needs.labels {
        if info.labels.get(label) != Some(value) {
            missing.push(format!("label {label}={value}"));
        }
    }
    if slots(needs) > info.slots() {
        missing.push(format!("{} slots (it has {})", slots(needs), info.slots()));
    }
    missing
}

/// Slots a job with these needs takes.
pub fn slots(needs: &Needs) -> u32 {
    needs.slots.max(1)
}

fn has_family(family: &str, info: &NodeInfo) -> bool {
    match &info.encoders {
        Some(encoders) => encoders.iter().any(|encoder| encoder.contains(family)),
        // An older node lists capabilities only, or nothing.
        None => {
            info.gpu_capabilities.is_empty()
                || info
                    .gpu_capabilities
                    .iter()
                    .any(|capability| capability.to_ascii_lowercase().contains(family))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ffrtmp_api::JobRequest;

    fn node(encoders: Option<&[&str]>, has_gpu: bool) -> NodeInfo {
        NodeInfo {
            encoders: encoders.map(|list| list.iter().map(|name| (*name).to_owned()).collect()),
            has_gpu,
            ..NodeInfo::default()
        }
    }

    fn needs(text: &str) -> Needs {
        serde_json::from_str::<JobRequest>(text).unwrap().needs()
    }

    #[test]
    fn a_gpu_job_fits_a_gpu_node_only() {
        let job = needs(r#"{"scenario":"1080p-h264","parameters":{"codec":"h264_nvenc"}}"#);
        assert_eq!(missing(&job, &node(None, false)), ["a GPU"]);
        assert!(missing(&job, &node(None, true)).is_empty());
        assert_eq!(
            missing(&job, &node(Some(&["libx264", "h264_vaapi"]), true)),
            ["nvenc encoders"]
        );
        assert!(missing(&job, &node(Some(&["h264_nvenc"]), true)).is_empty());
    }

    #[test]
    fn what_a_node_does_not_say_is_not_held_against_it() {
        let job = needs(r#"{"scenario":"720p-vp9","engine":"gstreamer"}"#);
        assert!(missing(&job, &NodeInfo::default()).is_empty());
        let told = NodeInfo {
            engines: Some(vec![Engine::Ffmpeg]),
            encoders: Some(vec!["libx264".to_owned()]),
            ..NodeInfo::default()
        };
        assert_eq!(missing(&job, &told), ["engine gstreamer", "an encoder for vp9"]);
    }

    #[test]
    fn labels_and_slots_count() {
        let job = needs(r#"{"scenario":"transcode","node_labels":{"zone":"a"},"slots":2}"#);
        assert_eq!(
            missing(&job, &NodeInfo::default()),
            ["label zone=a", "2 slots (it has 1)"]
        );
    }
}
