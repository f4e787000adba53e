//! Processes that are followed and not touched: which they are by default, and what their record says of the limits they
//! go without.
//!
//! It changes no state and orders nothing.

use super::facts::{Found, NAMESPACE, ProcessFacts};
use super::plan::not_enforced;
use super::record::Job;
use super::rule::PlacementMode;

/// What is done with a process: as asked, else what suits it.
pub(super) fn mode(asked: Option<PlacementMode>, facts: &ProcessFacts) -> PlacementMode {
    let left_alone = is_left_alone(facts).then_some(PlacementMode::Observe);
    asked.or(left_alone).unwrap_or(PlacementMode::Place)
}

/// Containers are their engine's to limit. Somebody who names a pid means just that process, so a sandbox that no engine
/// is known of (Flatpak's, `unshare -p`) does not hold an explicit request back.
fn is_left_alone(facts: &ProcessFacts) -> bool {
    match (facts.container.as_deref(), facts.found) {
        (None, _) | (Some(NAMESPACE), Found::Attach | Found::Run) => false,
        (Some(_), _) => true,
    }
}

/// Notes that the job is only followed, and warns of every limit that is therefore not in force.
pub(super) fn follow(job: &mut Job, now_ns: u64, container: Option<&str>) {
    job.not_placed = None;
    let why = container.map(|name| match name {
        NAMESPACE => "it runs in a pid namespace of its own".to_owned(),
        name => format!("it belongs to {name}"),
    });
    for limit in job.limits.names() {
        let why = why.as_deref().unwrap_or("its placement is observe");
        let cure = "placement `place` would move it into a group of ours";
        let warning = not_enforced(limit, format_args!("{why}, so it is only followed; {cure}"));
        job.warnings.push_new(warning);
    }
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    job.note(now_ns, format!("followed only{why}"));
}
