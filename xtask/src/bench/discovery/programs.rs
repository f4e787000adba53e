//! Run time of the kernel programs, as the kernel counts it while unrelated processes start and end.
//!
//! The counting itself (`kernel.bpf_stats_enabled`) costs two clock reads a run, which are in the figure; the call into
//! the program is not. The switch is put back as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::target::Target;
use super::{Settings, cost};
use crate::session::Session;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// After the governor's start, when it walks /proc.
const SETTLE: Duration = Duration::from_secs(1);

/// One program over the measurement.
#[derive(Debug, Serialize)]
pub(super) struct Program {
    /// Its name, where bpftool is there to tell.
    pub(super) name: String,
    /// How often it ran.
    pub(super) runs: u64,
    /// Nanoseconds a run.
    pub(super) average_ns: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    runs: u64,
    ns: u64,
}

/// The switch as it was, put back when dropped.
struct Restore(String);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.0) {
            println!("left behind: {SWITCH} is not {} again: {error}", self.0.trim());
        }
    }
}

/// Measures every program that ran, busiest first.
pub(super) fn measure(binaries: &Path, settings: &Settings) -> Result<Vec<Program>> {
    let target = Target::new(binaries)?;
    let restore = Restore(fs::read_to_string(SWITCH).with_context(|| format!("reading {SWITCH}"))?);
    fs::write(SWITCH, "1").with_context(|| format!("writing 1 to {SWITCH}"))?;
    let session = Session::start(binaries, &target.rules())?;
    std::thread::sleep(SETTLE);
    let before = counted(session.governor_pid())?;
    cost::spawn_true(settings.spawns_a_leg)?;
    let after = counted(session.governor_pid())?;
    let mut programs: Vec<Program> = after
        .iter()
        .filter_map(|(id, after)| {
            let before = before.get(id).copied().unwrap_or_default();
            let runs = after.runs.checked_sub(before.runs).filter(|runs| *runs > 0)?;
            Some(Program {
                name: name(*id),
                runs,
                average_ns: after.ns.saturating_sub(before.ns) as f64 / runs as f64,
            })
        })
        .collect();
    programs.sort_by_key(|program| std::cmp::Reverse(program.runs));
    session.close()?;
    drop(restore);
    Ok(programs)
}

/// Counters of every program that a process holds open, by the program's id.
fn counted(pid: u32) -> Result<BTreeMap<u32, Counted>> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&directory).with_context(|| format!("listing {directory}"))?;
    let texts = entries
        .flatten()
        // A descriptor may be closed by the time it is read.
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Ok(texts.filter_map(|text| program(&text)).collect())
}

/// What the text of one descriptor tells, if it is a program's.
fn program(fdinfo: &str) -> Option<(u32, Counted)> {
    let field = |name: &str| {
        let line = fdinfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse::<u64>().ok()
    };
    let id = u32::try_from(field("prog_id")?).ok()?;
    Some((
        id,
        Counted {
            runs: field("run_cnt")?,
            ns: field("run_time_ns")?,
        },
    ))
}

fn name(id: u32) -> String {
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show", "id", &id.to_string()])
        .output();
    let shown: Option<Value> = output
        .ok()
        .and_then(|output| serde_json::from_slice(&output.stdout).ok());
    let name = shown.as_ref().and_then(|shown| shown["name"].as_str());
    name.map_or_else(|| format!("program {id}"), str::to_owned)
}

/// Fails when a governor's programs are attached before the run: every exec would run them too, in every figure.
pub(super) fn refuse_others() -> Result<()> {
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show"])
        .output()
        .context("starting bpftool")?;
    let shown = serde_json::from_slice(&output.stdout).context("reading what bpftool shows")?;
    let others = ids_of_exec(&shown);
    if !others.is_empty() {
        bail!(
            "a governor's kernel programs are attached already (ids {others:?}); stop it, and end what it pinned with \
             `ffrtmp-governor --cleanup --config FILE`"
        );
    }
    Ok(())
}

fn ids_of_exec(shown: &Value) -> Vec<u64> {
    let programs = shown.as_array().into_iter().flatten();
    programs
        .filter(|program| program["name"] == "on_exec" && program["type"] == "tracing")
        .filter_map(|program| program["id"].as_u64())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_of_a_governor_are_recognised() {
        let shown = json!([
            {"id": 7, "type": "tracing", "name": "on_exec"},
            {"id": 8, "type": "kprobe", "name": "on_exec"},
            {"id": 9, "type": "tracing", "name": "on_fork"}
        ]);
        assert_eq!(ids_of_exec(&shown), [7]);
    }

    #[test]
    fn a_programs_counters_are_read_and_a_links_are_not() {
        let text = "pos:\t0\nflags:\t02000002\nprog_type:\t26\nprog_id:\t8\nrun_time_ns:\t900\nrun_cnt:\t3\n";
        assert_eq!(program(text), Some((8, Counted { runs: 3, ns: 900 })));
        assert_eq!(program("link_type:\ttracing\nprog_id:\t8\n"), None);
    }
}
