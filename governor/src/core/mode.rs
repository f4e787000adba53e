//! Which placement a job gets, and the order for it. Part of [`Governor`].
//!
//! What a rule or a request says wins; then containers, which are only observed; then systemd's services.

use ffrtmp_abi::ProcessKey;

use super::Governor;
use super::event::{Effect, PlaceOrder};
use super::facts::{Found, ProcessFacts};
use super::job::Trigger;
use super::observe::follow;
use super::record::Job;
use super::redact::harmless;
use super::rule::PlacementMode;
use super::unit;

impl Governor {
    /// Where systemd runs, a service's process stays within its service's reach: in a scope that ends with it, or, for
    /// `run`, in the service itself. Containers and what a rule says are settled before.
    pub(super) fn place_by_unit(&self, now_ns: u64, job: &mut Job, facts: &ProcessFacts) {
        let asked = job.asked_mode;
        if let Some(why) = &self.settings.no_scopes {
            if job.mode == PlacementMode::Scope {
                // Limits that need no group are better than none, and nothing else can end the process with its unit.
                job.mode = PlacementMode::InPlace;
                let why =
                    format!("placement `scope` is not possible, so the process stays in its group: {why}");
                job.note(now_ns, format!("warning: {why}"));
                job.warnings.push(why);
            }
            return;
        }
        job.unit = facts.cgroup.as_deref().and_then(unit::service_of);
        let Some(unit) = job
            .unit
            .as_ref()
            .filter(|_| asked.is_none() && job.mode == PlacementMode::Place)
        else {
            return;
        };
        let name = harmless(&unit.name);
        if job.found == Found::Run {
            job.mode = PlacementMode::InPlace;
            job.inside_unit = true;
            job.note(now_ns, format!("started inside {name}, and stays there"));
        } else {
            job.mode = PlacementMode::Scope;
            job.note(
                now_ns,
                format!("it belongs to {name}: a scope of its own, part of that"),
            );
        }
    }

    /// Orders what the job's mode asks for.
    pub(super) fn order_placement(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        container: Option<&str>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mode) = self.jobs.get(&key).map(|job| job.mode) else {
            return;
        };
        match mode {
            PlacementMode::Observe => {
                let Some(job) = self.advanced(key, Trigger::Followed) else {
                    return;
                };
                follow(job, now_ns, container);
                self.save(key, false, effects);
            }
            PlacementMode::Place | PlacementMode::Scope | PlacementMode::InPlace => {
                let Some(job) = self.advanced(key, Trigger::Ordered) else {
                    return;
                };
                job.not_placed = None;
                job.released = false;
                job.note(now_ns, "placement ordered");
                effects.push(Effect::Place(Box::new(PlaceOrder {
                    key,
                    class: job.class.clone(),
                    name: job.id.as_str().to_owned(),
                    // Who asks for a job by hand is in no hurry, and looks for its name.
                    spare: matches!(job.found, Found::Exec | Found::Adopted),
                    limits: job.limits.clone(),
                    mode,
                    unit: job.unit.clone(),
                    inside_unit: job.inside_unit && mode == PlacementMode::InPlace,
                })));
            }
        }
    }
}
