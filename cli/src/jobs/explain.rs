//! `ffrtmp jobs explain`: why a job waits, what each node thinks of it, and when it may start.

use std::time::Duration;

use ffrtmp_api::{Explanation, JobRef, JobState, WaitReason};

use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, age, harmless};

/// Explains one job.
pub(super) async fn explain(client: &Client, job: JobRef, output: &mut Output) -> Result<ExitCode, Failure> {
    let why: Explanation = client.get(&["jobs", &job.to_string(), "explain"], &[]).await?;
    match output.format() {
        Format::Json => output.json(&why)?,
        Format::Csv => output.rows(&verdicts(&why))?,
        _ => {
            output.line(&format!("Job {} is {}", why.sequence_number, why.status))?;
            for reason in &why.reasons {
                output.line(&format!("  {}", told(reason)))?;
            }
            if !matches!(why.status, JobState::Queued | JobState::Retrying) {
                // It waits for nothing, so there is nothing to explain.
                let number = why.sequence_number;
                output.talk(&format!(
                    "It waits for no node; `ffrtmp jobs status {number} -o wide` tells its story"
                ));
                return Ok(ExitCode::Success);
            }
            if why.reasons.contains(&WaitReason::Held) {
                return Ok(ExitCode::Success);
            }
            if let Some(ahead) = why.ahead {
                output.line(&format!("Jobs ahead: {ahead}"))?;
            }
            let start = why
                .start_estimate_sec
                .map(|seconds| age(Duration::from_secs(seconds)));
            output.line(&match start {
                Some(start) => format!("Starts in about {start} ({})", harmless(&why.estimate_basis)),
                None => format!("No estimate of its start: {}", harmless(&why.estimate_basis)),
            })?;
            if !why.nodes.is_empty() {
                output.rows(&verdicts(&why))?;
            }
        }
    }
    Ok(ExitCode::Success)
}

fn told(reason: &WaitReason) -> String {
    match reason {
        WaitReason::NoCapableNode { missing } => format!(
            "No node could ever run it; missing: {}",
            harmless(&missing.join(", "))
        ),
        WaitReason::CapableNodesUnavailable => {
            "The nodes that could run it are offline, draining or cordoned".to_owned()
        }
        WaitReason::CapableNodesBusy => "The nodes that could run it have no free slot".to_owned(),
        WaitReason::Blocklisted => {
            "It failed on the nodes that could run it; they are not given its kind for a while".to_owned()
        }
        WaitReason::Held => "Somebody holds it; `ffrtmp jobs resume` lets it go".to_owned(),
        WaitReason::Backoff { for_sec } => {
            format!("Its next try is due in {}", age(Duration::from_secs(*for_sec)))
        }
        WaitReason::TenantCap { cap } => format!("Its tenant already runs {cap}, as many as it may"),
        WaitReason::Behind { jobs } => format!("{jobs} others are served first"),
        WaitReason::WaitingForClaim => {
            "A node can take it; it goes out with that node's next call".to_owned()
        }
    }
}

fn verdicts(why: &Explanation) -> Rows {
    let mut rows = Rows::new(&["NODE", "COULD TAKE IT"]);
    for node in &why.nodes {
        let verdict = if node.obstacles.is_empty() {
            "now".to_owned()
        } else {
            format!("no: {}", harmless(&node.obstacles.join("; ")))
        };
        rows.push(vec![node.node_id.to_string(), verdict]);
    }
    rows
}
