//! The exec gate's figures as Prometheus series. Pure.

use prometheus::{Opts, Registry};

use super::render::{counter, gauge};
use crate::control::types::GateStatus;

const TIMEOUTS: (&str, &str) = (
    "ffrtmp_gate_timeouts_total",
    "Execs that went on because the budget was used up",
);

/// Adds them. Without a rule that wants the gate there are only its timeouts, which are none.
pub(super) fn render(registry: &Registry, gate: Option<&GateStatus>) -> Result<(), prometheus::Error> {
    let Some(gate) = gate else {
        return counter(registry, Opts::new(TIMEOUTS.0, TIMEOUTS.1), 0);
    };
    let (up, off) = (i64::from(gate.pid.is_some()), i64::from(gate.off.is_some()));
    gauge(registry, "ffrtmp_gate_up", "1 while the exec gate runs", up)?;
    gauge(
        registry,
        "ffrtmp_gate_off",
        "1 when it ended too often and was given up; a reload starts it again",
        off,
    )?;
    let held = gate.marked.iter().filter(|line| line.in_force).count();
    gauge(
        registry,
        "ffrtmp_gate_files",
        "Files whose execs are held",
        i64::try_from(held).unwrap_or(i64::MAX),
    )?;
    let restarts = Opts::new("ffrtmp_gate_restarts_total", "How often it was started again");
    counter(registry, restarts, gate.restarts)?;
    for (outcome, value) in &gate.counters {
        let (name, help) = match outcome.as_str() {
            "held" => ("ffrtmp_gate_held_total", "Execs that were held"),
            "timeouts" => TIMEOUTS,
            _ => ("ffrtmp_gate_outcomes_total", "What became of held execs"),
        };
        let opts = Opts::new(name, help);
        let opts = if name.ends_with("outcomes_total") {
            opts.const_label("outcome", outcome)
        } else {
            opts
        };
        counter(registry, opts, *value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn a_gate_shows_what_it_did_and_no_gate_shows_no_timeout() {
        let text = |gate: Option<&GateStatus>| {
            let registry = Registry::new();
            render(&registry, gate).unwrap();
            TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
        };
        assert!(text(None).ends_with("\nffrtmp_gate_timeouts_total 0\n"));
        let gate = GateStatus {
            pid: Some(1),
            restarts: 2,
            counters: [("held", 5), ("placed", 4), ("timeouts", 1)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            ..GateStatus::default()
        };
        let text = text(Some(&gate));
        for line in [
            "ffrtmp_gate_up 1",
            "ffrtmp_gate_off 0",
            "ffrtmp_gate_restarts_total 2",
            "ffrtmp_gate_held_total 5",
            "ffrtmp_gate_timeouts_total 1",
            "ffrtmp_gate_outcomes_total{outcome=\"placed\"} 4",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
