//! `ffrtmp doctor`: what works on this machine, and why the rest does not. Reads, never changes.

use std::path::Path;

use ffrtmp_governor::control::types::{GateStatus, PolicyLine, PressureStatus, Status};
use serde::Serialize;

use crate::args::{Format, Global};
use crate::backend::{Backend, DEFAULT_SOCKET};
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Mark, Output, Rows, or_dash};

/// Where the daemon's ledger is unless configured otherwise.
const DEFAULT_LEDGER: &str = "/var/lib/ffrtmp/governor.db";

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warn,
    Off,
}

impl State {
    fn word(self) -> (Mark, &'static str) {
        match self {
            Self::Ok => (Mark::Good, "ok"),
            Self::Warn => (Mark::Warn, "warn"),
            Self::Off => (Mark::Bad, "off"),
        }
    }
}

/// Looks at the machine and the governor.
pub async fn doctor(
    global: &Global,
    backend: &impl Backend,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let status = backend.status().await?;
    let mut checks = machine();
    checks.extend(governor(global, &status));
    let verdict = verdict(&status, &checks);
    if output.format() == Format::Json {
        output.json(&serde_json::json!({
            "verdict": verdict as u8,
            "checks": checks,
            "status": status,
        }))?;
        return Ok(verdict);
    }
    let mut rows = Rows::new(&["CHECK", "STATE", "FOUND"]);
    for check in &checks {
        let (mark, word) = check.state.word();
        let word = output.paint(mark, word);
        rows.push(vec![check.what.to_owned(), word, check.found.clone()]);
    }
    output.rows(&rows)?;
    if output.format() == Format::Wide {
        let mut counters = Rows::new(&["COUNTER", "VALUE"]);
        for (name, value) in &status.counters {
            counters.push(vec![name.clone(), value.to_string()]);
        }
        output.rows(&counters)?;
    }
    output.talk(match verdict {
        ExitCode::Success => "Everything works.",
        ExitCode::Ungoverned => "No limit that needs a control group can be enforced from here.",
        _ => "Processes are governed; see above for what is off.",
    });
    Ok(verdict)
}

/// Facts of the machine, whoever governs.
fn machine() -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |what, state, found| checks.push(Check { what, state, found });
    match nix::sys::utsname::uname() {
        Ok(name) => add(
            "kernel",
            State::Ok,
            format!(
                "{} {}",
                name.release().to_string_lossy(),
                name.machine().to_string_lossy()
            ),
        ),
        Err(error) => add("kernel", State::Warn, format!("uname: {}", error.desc())),
    }
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        add("BTF", State::Ok, "/sys/kernel/btf/vmlinux".to_owned());
    } else {
        let found =
            "no /sys/kernel/btf/vmlinux: the kernel's programs cannot be loaded (CONFIG_DEBUG_INFO_BTF)";
        add("BTF", State::Off, found.to_owned());
    }
    let user = nix::unistd::geteuid();
    if user.is_root() {
        add("privilege", State::Ok, "root".to_owned());
    } else {
        let found = format!("uid {user}: no control groups, no negative nice, no kernel programs of our own");
        add("privilege", State::Warn, found);
    }
    if ffrtmp_governor::host::pressure::is_available() {
        add(
            "PSI",
            State::Ok,
            "the kernel announces stalls; pressure rules work".to_owned(),
        );
    } else {
        let found = "the kernel tells no pressure, so pressure rules lower nothing; boot it with psi=1";
        add("PSI", State::Warn, found.to_owned());
    }
    let mounts = cgroup_mounts();
    if mounts.is_empty() {
        add(
            "cgroup mounts",
            State::Off,
            "no cgroup file system is mounted".to_owned(),
        );
    }
    for mount in mounts {
        add("cgroup mounts", State::Ok, mount);
    }
    checks
}

/// A line for each cgroup mount: version, place, controllers.
fn cgroup_mounts() -> Vec<String> {
    let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo());
    let Ok(mounts) = mounts else {
        return Vec::new();
    };
    mounts
        .into_iter()
        .filter_map(|mount| {
            let place = mount.mount_point.display();
            match mount.fs_type.as_str() {
                "cgroup2" => {
                    let listed = std::fs::read_to_string(mount.mount_point.join("cgroup.controllers"));
                    let controllers = listed.unwrap_or_default();
                    let controllers = controllers.trim();
                    let none = if controllers.is_empty() {
                        "no controllers"
                    } else {
                        controllers
                    };
                    Some(format!("v2 {place}: {none}"))
                }
                "cgroup" => {
                    let options = mount.super_options.keys().map(String::as_str);
                    let mut controllers: Vec<&str> = options.filter(|option| *option != "rw").collect();
                    controllers.sort_unstable();
                    Some(format!("v1 {place}: {}", controllers.join(",")))
                }
                _ => None,
            }
        })
        .collect()
}

/// Who answers on the socket.
fn socket(global: &Global, status: &Status) -> Check {
    let path = global.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into());
    let shown = path.display();
    let (state, found) = if status.pid != std::process::id() {
        let found = format!(
            "{shown} answered by pid {}, version {}",
            status.pid, status.version
        );
        (State::Ok, found)
    } else if !path.exists() {
        (State::Warn, format!("no daemon: {shown} does not exist"))
    } else if global.no_daemon {
        (State::Warn, format!("{shown} is left alone (--no-daemon)"))
    } else {
        (State::Warn, format!("{shown} exists, but nobody answers"))
    };
    Check {
        what: "socket",
        state,
        found,
    }
}

/// What the governor, or what stands in for it, says of itself.
fn governor(global: &Global, status: &Status) -> Vec<Check> {
    let mut checks = vec![socket(global, status)];
    let mut add = |what, state, found| checks.push(Check { what, state, found });
    let tier = match status.tier.as_str() {
        "kernel" => State::Ok,
        "wait" => State::Off,
        _ => State::Warn,
    };
    let reason = status.tier_reason.as_ref().map(|why| format!(": {why}"));
    add(
        "tier",
        tier,
        format!("{}{}", status.tier, reason.unwrap_or_default()),
    );
    if status.hierarchies.is_empty() {
        add(
            "limits",
            State::Off,
            "no control group can be written from here".to_owned(),
        );
    }
    for hierarchy in &status.hierarchies {
        add("limits", State::Ok, hierarchy.clone());
    }
    if status.wide {
        let found = "a rule without a name makes the kernel tell of every exec on this machine";
        add("rules", State::Warn, found.to_owned());
    } else {
        add(
            "rules",
            State::Ok,
            format!("{}, names: {}", status.rules, status.names.join(" ")),
        );
    }
    for (what, line) in policy(status) {
        let state = if line.in_force { State::Ok } else { State::Warn };
        add(what, state, line.text);
    }
    for off in &status.off {
        add("feature", State::Off, off.clone());
    }
    if let Some(fast) = &status.fast_placement {
        let state = if fast.in_force { State::Ok } else { State::Warn };
        add("placement", state, fast.text.clone());
    }
    for (what, state, found) in status.gate.iter().flat_map(gate) {
        add(what, state, found);
    }
    let ledger = match &status.ledger {
        Some(path) => path.display().to_string(),
        None => DEFAULT_LEDGER.to_owned(),
    };
    match std::fs::metadata(&ledger) {
        Ok(found) => add("ledger", State::Ok, format!("{ledger}, {} bytes", found.len())),
        Err(error) => add("ledger", State::Warn, format!("{ledger}: {error}")),
    }
    checks
}

/// The exec gate: what is held, what it lacks, what can go wrong all the same.
fn gate(gate: &GateStatus) -> Vec<(&'static str, State, String)> {
    let count = |name: &str| gate.counters.get(name).copied().unwrap_or(0);
    let (state, runs) = match (gate.pid, &gate.off) {
        (Some(pid), _) => (
            State::Ok,
            format!("runs as pid {pid}, {} groups ready", gate.ready),
        ),
        (None, Some(why)) => (
            State::Warn,
            format!("off: {why}; reload the rules to start it again"),
        ),
        (None, None) => (State::Warn, "is being started".to_owned()),
    };
    let took = gate.moves.map_or_else(String::new, |moves| {
        format!(
            "; the last {} moves took {} us, {} us at the 99th percentile",
            moves.last, moves.p50_us, moves.p99_us
        )
    });
    let did = format!(
        "{runs}; restarted {} times, held {} execs, placed {}, {} over the budget, {} without a group{took}",
        gate.restarts,
        count("held"),
        count("placed"),
        count("timeouts"),
        count("no_group")
    );
    let mut lines = vec![("gate", state, did)];
    if gate.marked.is_empty() {
        let found = "none of its rules' programs is there yet; the first exec of one marks it";
        lines.push(("gate", State::Warn, found.to_owned()));
    }
    if 0 < count("timeouts") {
        let found = "execs went on before they were placed: where fast_placement is off a lone move takes 5 to 20 ms; \
                     switch it on, or raise gate.budget";
        lines.push(("gate", State::Warn, found.to_owned()));
    }
    for line in &gate.marked {
        let (state, word) = if line.in_force {
            (State::Ok, "holds execs of")
        } else {
            (State::Warn, "does not hold")
        };
        lines.push(("gate", state, format!("{word} {}", line.text)));
    }
    let lacks = gate
        .lacks
        .iter()
        .map(|lack| ("gate", State::Off, format!("is not {lack}")));
    let risks = gate
        .risks
        .iter()
        .map(|risk| ("gate risk", State::Ok, risk.clone()));
    lines.into_iter().chain(lacks).chain(risks).collect()
}

/// The node's policy: what is reserved, what is watched and lowered, what is promised beyond the machine.
fn policy(status: &Status) -> Vec<(&'static str, PolicyLine)> {
    let policy = &status.policy;
    let reserve = policy.reserve.iter().cloned().map(|line| ("reserve", line));
    let overcommit = policy.overcommit.iter().map(|text| {
        let text = text.clone();
        let in_force = false;
        ("overcommit", PolicyLine { in_force, text })
    });
    reserve
        .chain(overcommit)
        .chain(policy.pressure.iter().map(|rule| ("pressure", pressure(rule))))
        .collect()
}

fn pressure(rule: &PressureStatus) -> PolicyLine {
    let head = format!("{}: {} lowers {}", rule.rule, rule.watches, rule.lowers);
    let not_set = rule.trigger.as_ref().filter(|trigger| !trigger.in_force);
    let (in_force, tail) = match (not_set, rule.lowered) {
        (Some(trigger), _) => (false, format!("off: {}", trigger.text)),
        (None, true) => {
            let back = or_dash(rule.restore_in_ms, |ms| format!("{}s", ms.div_ceil(1000)));
            let limits: Vec<String> = rule
                .applied
                .iter()
                .map(|one| format!("{}={}", one.limit, one.value))
                .collect();
            let warnings = rule.warnings.join("; ");
            let text = format!(
                "lowered now ({}), lifted in {back} unless it rises again {warnings}",
                limits.join(" ")
            );
            (rule.warnings.is_empty(), text.trim_end().to_owned())
        }
        (None, false) => (true, format!("calm, rose {} times", rule.rises)),
    };
    PolicyLine {
        in_force,
        text: format!("{head}; {tail}"),
    }
}

fn verdict(status: &Status, checks: &[Check]) -> ExitCode {
    if status.hierarchies.is_empty() {
        ExitCode::Ungoverned
    } else if checks.iter().all(|check| check.state == State::Ok) {
        ExitCode::Success
    } else {
        ExitCode::Degraded
    }
}
