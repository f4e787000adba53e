//! `ffrtmp jobs list`: pages are fetched until there are enough.

use ffrtmp_api::{JobList, JobState, Paging};
use serde_json::json;

use super::args::ListArgs;
use super::show;
use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

impl ListArgs {
    /// The newest jobs, whatever they are.
    pub(super) fn newest() -> Self {
        Self {
            limit: Paging::LIMIT,
            ..Self::default()
        }
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        let mut put = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
        let states: Vec<&str> = self.status.iter().copied().map(JobState::as_str).collect();
        put("status", Some(states.join(",")).filter(|text| !text.is_empty()));
        put("queue", self.queue.map(|word| word.to_string()));
        put("priority", self.priority.map(|word| word.to_string()));
        put("engine", self.engine.map(|word| word.to_string()));
        put("scenario", self.scenario.clone());
        put("node", self.node.as_ref().map(ToString::to_string));
        put("tenant", self.tenant.clone());
        put("created_after", self.created_after.map(|at| at.to_string()));
        put("created_before", self.created_before.map(|at| at.to_string()));
        query
    }
}

/// Lists jobs.
pub(super) async fn list(client: &Client, args: &ListArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let filter = args.query();
    let most = if args.all { usize::MAX } else { args.limit as usize };
    let mut jobs = Vec::new();
    let mut cursor = None;
    loop {
        let page = (most - jobs.len()).min(Paging::LIMIT_MOST as usize);
        let mut query = filter.clone();
        query.push(("limit", page.to_string()));
        query.extend(cursor.map(|cursor: ffrtmp_api::Cursor| ("cursor", cursor.to_string())));
        let answer: JobList = client.get(&["jobs"], &query).await?;
        jobs.extend(answer.jobs);
        cursor = answer.next_cursor;
        if cursor.is_none() || jobs.len() >= most {
            break;
        }
    }
    if output.format() == Format::Json {
        output.json(&json!({"jobs": jobs, "count": jobs.len(), "next_cursor": cursor}))?;
        return Ok(ExitCode::Success);
    }
    output.rows(&show::rows(&jobs))?;
    let more = if cursor.is_some() {
        "; there are more (--all)"
    } else {
        ""
    };
    output.talk(&format!("Jobs: {}{more}", jobs.len()));
    Ok(ExitCode::Success)
}
