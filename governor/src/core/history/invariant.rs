//! What holds of a governor after every step of every history.

use std::collections::{BTreeMap, BTreeSet};

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::JobId;

use crate::core::Governor;
use crate::core::job::State;
use crate::core::record::NOTES_MAX;

/// All of them.
pub(super) fn check_all(governor: &Governor, now_ns: u64, wake: Option<u64>) {
    invariant_a_process_is_in_one_place(governor);
    invariant_no_two_live_jobs_share_an_id(governor);
    invariant_the_table_of_ids_is_that_of_the_jobs(governor);
    invariant_a_deadline_belongs_to_somebody_who_waits_or_lives(governor);
    invariant_the_host_wakes_us_for_the_earliest_deadline(governor, now_ns, wake);
    invariant_states_agree_with_what_was_seen(governor);
    invariant_views_are_those_of_the_jobs(governor);
    invariant_memory_is_bounded(governor);
}

fn invariant_a_process_is_in_one_place(governor: &Governor) {
    let mut seen = BTreeSet::new();
    let places = governor
        .jobs
        .keys()
        .chain(governor.waiting.keys())
        .copied()
        .chain(governor.closed.values().map(|job| job.key));
    for key in places {
        assert!(seen.insert(key), "{key:?} is in two places");
        assert!(governor.ignored.get(key).is_none(), "{key:?} is ignored and not");
        assert!(
            governor.early.get(key).is_none(),
            "{key:?} has an end nobody took"
        );
    }
}

fn invariant_no_two_live_jobs_share_an_id(governor: &Governor) {
    let mut owners: BTreeMap<&JobId, ProcessKey> = BTreeMap::new();
    for job in governor.jobs.values().filter(|job| job.state != State::Closed) {
        if job.id != JobId::unknown() {
            let other = owners.insert(&job.id, job.key);
            assert_eq!(other, None, "{} is {:?} too", job.id, job.key);
        }
    }
}

fn invariant_the_table_of_ids_is_that_of_the_jobs(governor: &Governor) {
    let from_jobs: BTreeMap<&JobId, ProcessKey> = governor
        .jobs
        .values()
        .filter(|job| job.state != State::Closed && job.id != JobId::unknown())
        .map(|job| (&job.id, job.key))
        .collect();
    let table: BTreeMap<&JobId, ProcessKey> = governor.ids.iter().map(|(id, key)| (id, *key)).collect();
    assert_eq!(from_jobs, table);
}

fn invariant_a_deadline_belongs_to_somebody_who_waits_or_lives(governor: &Governor) {
    for key in governor.deadlines.keys() {
        let lives = governor.jobs.get(&key).is_some_and(|job| job.state.live());
        assert!(
            lives || governor.waiting.contains_key(&key),
            "{key:?} has a deadline"
        );
    }
    for key in governor.waiting.keys() {
        assert!(
            governor.deadlines.of(*key).is_some(),
            "{key:?} waits without a deadline"
        );
    }
}

fn invariant_the_host_wakes_us_for_the_earliest_deadline(
    governor: &Governor,
    now_ns: u64,
    wake: Option<u64>,
) {
    if let Some(earliest) = governor.deadlines.earliest() {
        let wake = wake.expect("a deadline and no timer");
        assert!(
            wake <= earliest.max(now_ns),
            "woken at {wake}, due at {earliest}, now {now_ns}"
        );
    }
}

fn invariant_states_agree_with_what_was_seen(governor: &Governor) {
    for job in governor.jobs.values() {
        let ended = matches!(job.state, State::Draining | State::Retiring | State::Closed);
        assert_eq!(ended, job.exit.is_some(), "{:?} in {:?}", job.key, job.state);
        let drained = matches!(job.state, State::Retiring | State::Closed);
        assert_eq!(drained, job.drained, "{:?} in {:?}", job.key, job.state);
        assert!(
            !matches!(job.state, State::New | State::Gone),
            "{:?} rests in {:?}",
            job.key,
            job.state
        );
        let unplaced = job.state == State::Unplaced;
        assert!(
            !unplaced || job.not_placed.is_some(),
            "{:?} has no reason",
            job.key
        );
    }
}

fn invariant_views_are_those_of_the_jobs(governor: &Governor) {
    let views = governor.jobs();
    let keys: BTreeSet<ProcessKey> = views.iter().map(|view| view.key.0).collect();
    assert_eq!(keys.len(), views.len(), "a job is listed twice");
    assert_eq!(keys.len(), governor.jobs.len() + governor.closed.values().count());
    for view in views {
        let report = view.report;
        let ended = report.exit.is_some();
        assert_eq!(ended, report.end_time.is_some());
        assert_eq!(ended, report.exit_reason.is_some());
        let unseen = report.exit_reason.as_deref() == Some("unobserved");
        assert!(
            !unseen || report.exit_code.is_none(),
            "an exit code was made up: {report:?}"
        );
        let verdict = report.platform_sla_compliant.is_some();
        assert_eq!(verdict, report.platform_sla_reason.is_some());
        assert!(
            ended || !verdict,
            "a verdict over a job that has not ended: {report:?}"
        );
    }
}

fn invariant_memory_is_bounded(governor: &Governor) {
    assert!(governor.closed.values().count() <= governor.settings.keep_closed);
    assert!(governor.ignored.values().count() <= governor.settings.keep_ignored);
    for view in governor.jobs() {
        assert!(view.report.limits.warnings.len() <= NOTES_MAX + 1);
    }
}
