//! `ffrtmp queues`: how full a scheduler is.

use ffrtmp_api::{JobState, Priority, Queue, Stats};

use crate::args::Format;
use crate::client::Client;
use crate::client::args::Remote;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Shows the figures.
pub async fn queues(remote: &Remote, output: &mut Output) -> Result<ExitCode, Failure> {
    let stats: Stats = Client::open(remote)?.get(&["queues"], &[]).await?;
    if output.format() == Format::Json {
        output.json(&stats)?;
        return Ok(ExitCode::Success);
    }
    output.rows(&waiting(&stats))?;
    let states: Vec<_> = JobState::ALL
        .iter()
        .map(|state| format!("{} {state}", stats.jobs_by_state.get(state).unwrap_or(&0)))
        .collect();
    let nodes: Vec<_> = stats
        .nodes_by_status
        .iter()
        .map(|(status, nodes)| format!("{nodes} {status}"))
        .collect();
    let none = |list: Vec<String>| {
        if list.is_empty() {
            "none".to_owned()
        } else {
            list.join(", ")
        }
    };
    output.talk(&format!("Jobs: {}; held: {}", states.join(", "), stats.held));
    output.talk(&format!(
        "Nodes: {}; slots taken: {} of {}",
        none(nodes),
        stats.slots_used,
        stats.slots
    ));
    Ok(ExitCode::Success)
}

/// Jobs that wait, a row a queue, a column a priority.
fn waiting(stats: &Stats) -> Rows {
    let mut rows = Rows::new(&["QUEUE", "WAITING", "LIVE", "HIGH", "MEDIUM", "LOW", "BATCH"]);
    for queue in Queue::ALL {
        let of = |priority: Option<Priority>| -> u64 {
            stats
                .waiting
                .iter()
                .filter(|depth| depth.queue == *queue && priority.is_none_or(|one| one == depth.priority))
                .map(|depth| depth.jobs)
                .sum()
        };
        let mut cells = vec![queue.to_string(), of(None).to_string()];
        cells.extend(
            Priority::ALL
                .iter()
                .map(|priority| of(Some(*priority)).to_string()),
        );
        rows.push(cells);
    }
    rows
}
