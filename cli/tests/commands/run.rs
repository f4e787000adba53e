//! `run` before a governor that grants, refuses, fails and dies.

use ffrtmp_api::{ExitReason, Intent, OomScope, Sender};
use ffrtmp_cli::exit::ExitCode;
use ffrtmp_governor::control::types::ErrorCode;
use ffrtmp_governor::core::facts::Found;

use crate::{Fake, ended, job, typed};

#[test]
fn run_asks_for_what_was_typed_while_the_command_still_waits() {
    let fake = Fake::default();
    let said = typed(
        &fake,
        "ffrtmp run --job-id j --sla-eligible --intent soak --cpu-quota 50 --timeout 90s --placement in-place -- true",
    );
    assert_eq!(said.status.unwrap(), 0, "{}", said.talk);
    let asked = fake.attached.borrow();
    assert_eq!(asked[0].found, Found::Run);
    assert_eq!(asked[0].job_id.as_ref().unwrap().as_str(), "j");
    assert_eq!(asked[0].timeout_ms, Some(90_000));
    assert_eq!((asked[0].intent, asked[0].sla_eligible), (Intent::Soak, true));
    assert_eq!(asked[0].limits.cpu_max.unwrap().to_string(), "50000 100000");
    assert_eq!(
        asked[0].placement,
        Some(ffrtmp_governor::core::rule::PlacementMode::InPlace)
    );
    assert_eq!(asked[0].command.as_deref(), Some(["true".to_owned()].as_slice()));
}

#[test]
fn a_request_that_cannot_be_meant_stops_the_start_and_nothing_was_executed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made");
    for code in [ErrorCode::JobIdInUse, ErrorCode::Invalid] {
        let fake = Fake {
            refuse_attach: Some(code),
            ..Fake::default()
        };
        let said = typed(&fake, &format!("ffrtmp run -- touch {}", file.display()));
        let failure = said.status.unwrap_err();
        assert_eq!(failure.exit(ExitCode::Own), ExitCode::Own);
        assert_eq!(failure.hint().as_deref(), Some("ask differently"));
        assert!(!file.exists());
    }
}

#[test]
fn a_governor_that_fails_costs_limits_and_never_the_workload() {
    for code in [
        ErrorCode::Gone,
        ErrorCode::Failed,
        ErrorCode::NotAllowed,
        ErrorCode::NotGovernable,
    ] {
        let fake = Fake {
            refuse_attach: Some(code),
            ..Fake::default()
        };
        let said = typed(&fake, "ffrtmp run --cpu-quota 50 -- sh -c 'exit 6'");
        assert_eq!(said.status.unwrap(), 6);
        assert!(
            said.talk
                .contains("WARNING: The governor cannot take it: the script says no"),
            "{}",
            said.talk
        );
        assert!(
            said.talk.contains("WARNING: Cannot create cgroup"),
            "{}",
            said.talk
        );
    }
}

#[test]
fn what_only_root_may_ask_for_is_given_up_and_the_rest_is_kept() {
    let fake = Fake {
        refuse_attach: Some(ErrorCode::NotAllowed),
        only_downwards: true,
        ..Fake::default()
    };
    let said = typed(
        &fake,
        "ffrtmp run --nice -10 --oom-score -500 --cpu-quota 50 -- true",
    );
    assert_eq!(said.status.unwrap(), 0);
    assert!(
        said.talk
            .contains("[wrapper] WARNING: Cannot set negative nice (requires root), using 0\n"),
        "{}",
        said.talk
    );
    let asked = fake.attached.borrow();
    assert_eq!(
        (asked[1].limits.nice, asked[1].limits.oom_score_adj),
        (None, None)
    );
    assert_eq!(asked[1].limits.cpu_max, asked[0].limits.cpu_max);
}

#[test]
fn a_governor_that_dies_meanwhile_does_not_change_the_status() {
    let fake = Fake {
        lose_wait: true,
        ..Fake::default()
    };
    let said = typed(&fake, "ffrtmp run --json -- sh -c 'exit 6'");
    assert_eq!(said.status.unwrap(), 6);
    assert!(
        said.talk
            .contains("WARNING: no report from the governor (the script says no)"),
        "{}",
        said.talk
    );
    assert!(
        said.results.contains("\"exit_code\": 6") && said.results.contains("\"exit_reason\": \"error\""),
        "{}",
        said.results
    );
}

#[test]
fn the_governors_reason_is_kept_and_our_own_status_holds() {
    let mut view = ended(job("big", 4242));
    view.report.exit = Some(ExitReason::Oom {
        scope: OomScope::Memcg,
    });
    view.report.exit_code = Some(137);
    view.report.signal = Some(9);
    view.report.killed_by = Some(Sender::Kernel);
    view.report.platform_sla_reason = Some("workload_exceeded_limit".to_owned());
    let fake = Fake {
        ended: Some(view),
        ..Fake::default()
    };
    let said = typed(&fake, "ffrtmp run -- sh -c 'kill -9 $$'");
    assert_eq!(said.status.unwrap(), 137);
    assert!(
        said.talk.contains("[wrapper] Process exited: code=137, reason=oom, signal=9 (SIGKILL), sender=kernel, duration=1.0s\n"),
        "{}",
        said.talk
    );
    assert!(said.talk.ends_with(
        "JOB big | sla=COMPLIANT | reason=workload_exceeded_limit | runtime=1s | exit=137 | pid=4242\n"
    ));
}
