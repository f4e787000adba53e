//! `ffrtmp nodes drain --wait`: stays until the node has no work. The stream of events tells when to look; a slow sample
//! finds slots that become free without a step of their job, as when a cancelled process is gone at last.

use std::time::Duration;

use ffrtmp_api::NodeId;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use super::{DrainArgs, left, ordered, told};
use crate::client::Client;
use crate::client::events::{Events, Told};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

/// How often the node's slots are sampled.
const SAMPLE: Duration = Duration::from_secs(2);
/// Stands for no time limit: a year.
const FOR_EVER: Duration = Duration::from_hours(365 * 24);

/// Drains a node and waits.
pub(super) async fn wait(
    client: &Client,
    args: &DrainArgs,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let id = &args.node.node;
    let end = Instant::now() + args.timeout.unwrap_or(FOR_EVER).min(FOR_EVER);
    // Before the order, so that no step falls between the two.
    let mut events = Events::open(client, None, None).await?;
    let mut node = ordered(client, id, "drain").await?;
    let mut sample = tokio::time::interval(SAMPLE);
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = usize::MAX;
    while 0 < node.slots_used {
        if said != node.job_ids.len() {
            said = node.job_ids.len();
            output.talk(&format!("Node {id} is {}; {}", node.status, left(&node)));
        }
        tokio::select! {
            seen = concerned(&mut events, id) => seen?,
            _ = sample.tick() => {}
            () = sleep_until(end) => {
                told(&node, output)?;
                output.talk(&format!("The time is up; {id} stays draining: `ffrtmp nodes drain {id} --wait` waits again"));
                return Ok(ExitCode::TimedOut);
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                output.talk(&format!("Node {id} stays draining; `ffrtmp nodes resume {id}` gives it work again"));
                return Ok(ExitCode::Interrupted);
            }
        }
        node = client.get(&["nodes", id.as_str()], &[]).await?;
    }
    told(&node, output)?;
    Ok(ExitCode::Success)
}

/// Returns when something happened that may concern this node.
async fn concerned(events: &mut Events, node: &NodeId) -> Result<(), Failure> {
    loop {
        match events.next().await? {
            Told::Gap => return Ok(()),
            Told::Event(event) if event.node_id.as_ref() == Some(node) || event.step.to.terminal() => {
                return Ok(());
            }
            Told::Event(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Cli;

    #[test]
    fn a_time_limit_without_a_wait_is_a_mistake() {
        let parsed = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parsed("ffrtmp nodes drain a --wait --timeout 30m"));
        assert!(!parsed("ffrtmp nodes drain a --timeout 30m"));
    }
}
