//! How a job ended and whether the platform did its part: pure judgement over what the kernel recorded.
//!
//! It owns the order of causes (what we did before what others did, the kernel's own word before a status) and the SLA
//! verdict. It refuses to guess: an end nobody saw is `Unobserved` and has no exit code and no verdict.

use ffrtmp_api::{ExitReason, Intent, OomScope, Sender, SlaVerdict};

use super::event::{ExitFacts, Killer};
use super::facts::Found;
use super::redact::harmless;

/// An end that somebody asked for, and that we carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndOrder {
    /// The job's own time limit passed.
    Timeout,
    /// Somebody cancelled the job.
    Cancel,
}

/// What is known beside the exit itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Circumstances {
    /// Pid of the process, to tell its own signals.
    pub(super) pid: u32,
    /// The end we ordered, and when, boot-time clock, ns.
    pub(super) order: Option<(u64, EndOrder)>,
    /// What is known of the memory of the job's group.
    pub(super) memory: GroupMemory,
}

/// The memory of the job's group, as far as an out-of-memory kill is judged by it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GroupMemory {
    /// The job had a group of its own.
    pub(super) group: bool,
    /// Limit in force, bytes.
    pub(super) limit: Option<u64>,
    /// Largest use, bytes; known once the group was read for the last time.
    pub(super) peak: Option<u64>,
}

/// How far below its limit a group may peak and still have been the one that ran out, bytes. The kernel charges in
/// batches of 64 pages and may fail on a huge page of 2 MiB without ever counting it (`mm/memcontrol.c`); twice that.
const PEAK_SLACK: u64 = 4 << 20;

/// SIGKILL, by which the out-of-memory killer ends its victim. The core links no libc.
const SIGKILL: u8 = 9;

/// A wait status taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Exited(u8),
    Signaled(u8),
    NoEnd(i32),
}

impl Status {
    /// Takes apart what `waitpid` gives: the low 7 bits are the signal, bit 7 says core, the next byte is the code.
    fn of(raw: i32) -> Self {
        let low = (raw & 0x7f) as u8;
        match low {
            0 => Self::Exited((raw >> 8 & 0xff) as u8),
            0x7f => Self::NoEnd(raw),
            signal => Self::Signaled(signal),
        }
    }
}

/// The reason of an end.
pub(super) fn classify(exit: &ExitFacts, around: &Circumstances) -> ExitReason {
    // A process that ended by itself a moment before our signal was not ended by us.
    if let Some((ordered_ns, order)) = around.order
        && ordered_ns <= exit.at_ns
    {
        return match order {
            EndOrder::Timeout => ExitReason::Timeout,
            EndOrder::Cancel => ExitReason::Canceled,
        };
    }
    let status = exit.status.map(Status::of);
    // A victim that had run its last instruction before the killer's SIGKILL arrived ended by itself.
    if exit.oom && matches!(status, None | Some(Status::Signaled(SIGKILL))) {
        return ExitReason::Oom {
            scope: oom_scope(&around.memory),
        };
    }
    match status {
        Some(Status::Exited(0)) => ExitReason::Success,
        Some(Status::Exited(code)) => ExitReason::Error { code },
        Some(Status::Signaled(signal)) => ExitReason::Signal {
            signal,
            sender: exit
                .killer
                .as_ref()
                .and_then(|killer| sender(killer, signal, around.pid)),
        },
        Some(Status::NoEnd(raw)) => ExitReason::Unobserved {
            why: format!("the wait status {raw:#x} is that of a stopped process, not of an ended one"),
        },
        None => ExitReason::Unobserved {
            why: exit
                .unobserved
                .clone()
                .unwrap_or_else(|| "nobody saw its wait status".to_owned()),
        },
    }
}

/// Whose memory ran out. The group's counter of kills does not say: the kernel raises it for every kind of
/// out-of-memory kill (`memory.events` in its cgroup-v2 document). A limit in force that was reached does.
fn oom_scope(memory: &GroupMemory) -> OomScope {
    match (memory.group, memory.limit, memory.peak) {
        (false, _, _) => OomScope::Unknown,
        (true, None, _) => OomScope::Global,
        (true, Some(limit), Some(peak)) if peak.saturating_add(PEAK_SLACK) < limit => OomScope::Global,
        (true, Some(_), _) => OomScope::Memcg,
    }
}

/// Who sent the signal that ended it. The last fatal signal seen is the sender's only if it is the one in the status:
/// a process may handle SIGTERM from one sender and die of another's SIGKILL.
fn sender(killer: &Killer, signal: u8, own_pid: u32) -> Option<Sender> {
    if killer.signal != u32::from(signal) {
        return None;
    }
    if killer.kernel {
        return Some(Sender::Kernel);
    }
    if killer.pid == own_pid {
        return Some(Sender::Itself);
    }
    Some(Sender::Process {
        pid: killer.pid,
        uid: killer.uid,
        comm: harmless(&killer.comm),
    })
}

/// The signal a process was asked to end with and that did not kill it: it handled it and exited, or ignored it. A
/// server that ends its children politely leaves no other trace in their status.
pub(super) fn handled(exit: &ExitFacts) -> Option<String> {
    let Status::Exited(_) = Status::of(exit.status?) else {
        return None;
    };
    let killer = exit.killer.as_ref()?;
    let sender = if killer.kernel {
        "the kernel".to_owned()
    } else {
        format!(
            "{} (pid {}, uid {})",
            harmless(&killer.comm),
            killer.pid,
            killer.uid
        )
    };
    Some(format!(
        "signal {}, sent by {sender}, did not kill it: it exited by itself",
        killer.signal
    ))
}

/// The status as a shell shows it: the code, or 128 + signal. `None` when it was not seen.
pub(super) fn exit_code(exit: &ExitFacts) -> Option<i32> {
    match Status::of(exit.status?) {
        Status::Exited(code) => Some(i32::from(code)),
        Status::Signaled(signal) => Some(128 + i32::from(signal)),
        Status::NoEnd(_) => None,
    }
}

/// The signal that ended it, where one did.
pub(super) fn signal(exit: &ExitFacts) -> Option<u8> {
    match Status::of(exit.status?) {
        Status::Signaled(signal) => Some(signal),
        Status::Exited(_) | Status::NoEnd(_) => None,
    }
}

/// True when a job counts towards the SLA: it was marked, and it is no trial. Every ended job has a verdict; only
/// those of counting jobs belong into a rate.
pub fn counts(intent: Intent, sla_eligible: bool) -> bool {
    match intent {
        Intent::Production | Intent::Soak => sla_eligible,
        Intent::Test | Intent::Experiment => false,
    }
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// How the job came to us; a job we started completes, one we found is observed to its completion.
    pub(super) found: Found,
    /// What it is for.
    pub(super) intent: Intent,
    /// Whether it was marked for the SLA.
    pub(super) sla_eligible: bool,
    /// Limits were asked for, the placement failed, and the process outlived the failure.
    pub(super) limits_missing: bool,
}

/// Whether the platform did its part, or `None` where nobody can say.
pub(super) fn verdict(reason: &ExitReason, service: Service) -> Option<SlaVerdict> {
    let missing = service.limits_missing && counts(service.intent, service.sla_eligible);
    let (compliant, word) = match reason {
        ExitReason::Unobserved { .. }
        | ExitReason::Oom {
            scope: OomScope::Unknown,
        } => return None,
        ExitReason::Oom {
            scope: OomScope::Global,
        } => (false, "platform_out_of_memory"),
        ExitReason::Lost { .. } => (false, "node_lost"),
        ExitReason::Success
        | ExitReason::Error { .. }
        | ExitReason::Signal { .. }
        | ExitReason::Oom {
            scope: OomScope::Memcg,
        }
        | ExitReason::Timeout
        | ExitReason::Canceled
        | ExitReason::Quota { .. }
            if missing =>
        {
            (false, "limits_not_enforced")
        }
        ExitReason::Success => match service.found {
            Found::Run => (true, "completed_successfully"),
            Found::Exec | Found::Adopted | Found::Attach => (true, "observed_to_completion"),
        },
        ExitReason::Error { .. } | ExitReason::Signal { .. } => (true, "workload_failed_platform_ok"),
        ExitReason::Oom {
            scope: OomScope::Memcg,
        }
        | ExitReason::Quota { .. } => (true, "workload_exceeded_limit"),
        ExitReason::Timeout => (true, "user_timeout"),
        ExitReason::Canceled => (true, "canceled_by_request"),
    };
    Some(SlaVerdict {
        compliant,
        reason: word.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> ExitFacts {
        ExitFacts {
            at_ns: 100,
            status: Some(code << 8),
            ..ExitFacts::default()
        }
    }

    fn signaled(signal: i32) -> ExitFacts {
        ExitFacts {
            at_ns: 100,
            status: Some(signal),
            ..ExitFacts::default()
        }
    }

    fn killed(signal: i32, by: Killer) -> ExitFacts {
        ExitFacts {
            killer: Some(by),
            ..signaled(signal)
        }
    }

    fn killer(signal: u32, pid: u32, kernel: bool) -> Killer {
        Killer {
            signal,
            pid,
            uid: 1000,
            comm: "bash".to_owned(),
            kernel,
        }
    }

    fn oom(status: Option<i32>) -> ExitFacts {
        ExitFacts {
            at_ns: 100,
            status,
            oom: true,
            killer: Some(killer(9, 0, true)),
            ..ExitFacts::default()
        }
    }

    fn around() -> Circumstances {
        Circumstances {
            pid: 77,
            ..Circumstances::default()
        }
    }

    fn ordered(at_ns: u64, order: EndOrder) -> Circumstances {
        Circumstances {
            order: Some((at_ns, order)),
            ..around()
        }
    }

    fn memory(group: bool, limit: Option<u64>, peak: Option<u64>) -> Circumstances {
        Circumstances {
            memory: GroupMemory { group, limit, peak },
            ..around()
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_signal_that_was_outlived_is_told_with_its_sender() {
        let killer = Killer {
            signal: 15,
            pid: 7,
            uid: 33,
            comm: "nginx\u{1b}".to_owned(),
            kernel: false,
        };
        let outlived = ExitFacts {
            killer: Some(killer.clone()),
            ..exited(255)
        };
        insta::assert_snapshot!(
            handled(&outlived).unwrap(),
            @r"signal 15, sent by nginx\u{1b} (pid 7, uid 33), did not kill it: it exited by itself"
        );
        assert_eq!(handled(&exited(255)), None, "nobody sent one");
        let killed = ExitFacts {
            status: Some(15),
            killer: Some(killer),
            ..ExitFacts::default()
        };
        assert_eq!(handled(&killed), None, "the reason says it already");
    }

    #[test]
    fn every_cause_has_its_reason_code_and_signal() {
        let bash = Sender::Process {
            pid: 5,
            uid: 1000,
            comm: "bash".to_owned(),
        };
        let by = |signal, sender| ExitReason::Signal { signal, sender };
        let out_of = |scope| ExitReason::Oom { scope };
        let unseen = |why: &str| ExitReason::Unobserved { why: why.to_owned() };
        let lost = ExitFacts {
            unobserved: Some("the connector dropped it".to_owned()),
            ..ExitFacts::default()
        };
        let (mib64, peak64, peak9) = (Some(64 * MIB), Some(63 * MIB), Some(9 * MIB));
        #[rustfmt::skip]
        let table = [
            ("status 0", exited(0), around(), ExitReason::Success, Some(0), None),
            ("status 1", exited(1), around(), ExitReason::Error { code: 1 }, Some(1), None),
            ("status 255", exited(255), around(), ExitReason::Error { code: 255 }, Some(255), None),
            ("SIGKILL by bash", killed(9, killer(9, 5, false)), around(), by(9, Some(bash.clone())), Some(137), Some(9)),
            ("SIGTERM by bash, core flag", killed(0x8f, killer(15, 5, false)), around(), by(15, Some(bash)), Some(143), Some(15)),
            ("SIGSEGV by the kernel", killed(0x8b, killer(11, 0, true)), around(), by(11, Some(Sender::Kernel)), Some(139), Some(11)),
            ("abort()", killed(0x86, killer(6, 77, false)), around(), by(6, Some(Sender::Itself)), Some(134), Some(6)),
            ("SIGKILL, but the sender seen sent SIGTERM", killed(9, killer(15, 5, false)), around(), by(9, None), Some(137), Some(9)),
            ("SIGPIPE, sender unseen", signaled(13), around(), by(13, None), Some(141), Some(13)),
            ("SIGTERM handled, exit 255", killed(255 << 8, killer(15, 5, false)), around(), ExitReason::Error { code: 255 }, Some(255), None),
            ("oom at the group's limit", oom(Some(9)), memory(true, mib64, peak64), out_of(OomScope::Memcg), Some(137), Some(9)),
            ("oom, limit in force, peak not read yet", oom(Some(9)), memory(true, mib64, None), out_of(OomScope::Memcg), Some(137), Some(9)),
            ("oom far below the group's limit", oom(Some(9)), memory(true, mib64, peak9), out_of(OomScope::Global), Some(137), Some(9)),
            ("oom in a group without limit", oom(Some(9)), memory(true, None, peak9), out_of(OomScope::Global), Some(137), Some(9)),
            ("oom without a group", oom(Some(9)), memory(false, None, None), out_of(OomScope::Unknown), Some(137), Some(9)),
            ("oom, status unseen", oom(None), memory(true, mib64, None), out_of(OomScope::Memcg), None, None),
            ("chosen by the oom killer, but had ended with 0", oom(Some(0)), memory(true, mib64, None), ExitReason::Success, Some(0), None),
            ("timeout, SIGTERM", signaled(15), ordered(90, EndOrder::Timeout), ExitReason::Timeout, Some(143), Some(15)),
            ("timeout, ended with 255", exited(255), ordered(90, EndOrder::Timeout), ExitReason::Timeout, Some(255), None),
            ("ended with 0 before the timeout's signal", exited(0), ordered(101, EndOrder::Timeout), ExitReason::Success, Some(0), None),
            ("canceled", signaled(9), ordered(100, EndOrder::Cancel), ExitReason::Canceled, Some(137), Some(9)),
            ("unobserved, why known", lost, around(), unseen("the connector dropped it"), None, None),
            ("unobserved, why unknown", ExitFacts::default(), around(), unseen("nobody saw its wait status"), None, None),
            ("a stop is no end", signaled(0x137f), around(), unseen("the wait status 0x137f is that of a stopped process, not of an ended one"), None, None),
        ];
        for (cause, exit, around, reason, code, signal_number) in table {
            assert_eq!(classify(&exit, &around), reason, "{cause}");
            assert_eq!(exit_code(&exit), code, "{cause}");
            assert_eq!(signal(&exit), signal_number, "{cause}");
        }
    }

    #[test]
    fn every_reason_has_its_verdict() {
        let run = Service {
            found: Found::Run,
            intent: Intent::Production,
            sla_eligible: true,
            limits_missing: false,
        };
        let watched = Service {
            found: Found::Exec,
            ..run
        };
        let missing = Service {
            limits_missing: true,
            ..run
        };
        let trial = Service {
            intent: Intent::Experiment,
            ..missing
        };
        let signal = ExitReason::Signal {
            signal: 9,
            sender: None,
        };
        let oom = |scope| ExitReason::Oom { scope };
        let quota = ExitReason::Quota {
            which: "disk".to_owned(),
        };
        let lost = ExitReason::Lost {
            node: "edge-1".to_owned(),
        };
        let unobserved = ExitReason::Unobserved { why: String::new() };
        #[rustfmt::skip]
        let table = [
            (ExitReason::Success, run, Some((true, "completed_successfully"))),
            (ExitReason::Success, watched, Some((true, "observed_to_completion"))),
            (ExitReason::Success, missing, Some((false, "limits_not_enforced"))),
            (ExitReason::Success, trial, Some((true, "completed_successfully"))),
            (ExitReason::Error { code: 1 }, watched, Some((true, "workload_failed_platform_ok"))),
            (signal.clone(), run, Some((true, "workload_failed_platform_ok"))),
            (signal, missing, Some((false, "limits_not_enforced"))),
            (oom(OomScope::Memcg), run, Some((true, "workload_exceeded_limit"))),
            (oom(OomScope::Global), run, Some((false, "platform_out_of_memory"))),
            (oom(OomScope::Global), missing, Some((false, "platform_out_of_memory"))),
            (oom(OomScope::Unknown), run, None),
            (ExitReason::Timeout, run, Some((true, "user_timeout"))),
            (ExitReason::Canceled, run, Some((true, "canceled_by_request"))),
            (quota, run, Some((true, "workload_exceeded_limit"))),
            (lost, run, Some((false, "node_lost"))),
            (unobserved.clone(), run, None),
            (unobserved, missing, None),
        ];
        for (reason, service, expected) in table {
            let found = verdict(&reason, service);
            let found = found.as_ref().map(|v| (v.compliant, v.reason.as_str()));
            assert_eq!(found, expected, "{reason:?} {service:?}");
        }
    }

    #[test]
    fn only_marked_production_and_soak_jobs_count() {
        assert!(counts(Intent::Production, true));
        assert!(counts(Intent::Soak, true));
        assert!(!counts(Intent::Production, false));
        assert!(!counts(Intent::Test, true));
        assert!(!counts(Intent::Experiment, true));
    }
}
