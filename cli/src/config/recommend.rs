//! `ffrtmp config recommend`: how many jobs a node on this machine should take, by the predecessor's formulas, and no more than
//! its memory holds. Flags are printed only if the programs have them.

use std::path::Path;

use serde::Serialize;

use super::Environment;
use super::hardware::{GIB, Hardware, NodeType};
use crate::args::Format;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, harmless, or_dash};

/// Memory one job may take unless it says otherwise: the predecessor's default limit.
const JOB_BYTES: u64 = 2 * GIB;
/// Memory that stays with the system: 1 GiB, or a tenth.
const SYSTEM_BYTES: u64 = GIB;
/// Port of the node's metrics, as dashboards know it.
const METRICS_PORT: u16 = 9091;
/// Where a node keeps its things.
const WORK_DIR: &str = "/var/lib/ffrtmp";

/// What to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recommendations {
    /// Jobs at once.
    pub max_concurrent_jobs: u64,
    /// How often the predecessor's agent would ask; ours waits instead of asking.
    pub poll_interval: &'static str,
    /// Port of the node's metrics.
    pub metrics_port: u16,
    /// Directory of the node.
    pub work_dir: &'static str,
}

#[derive(Debug, Serialize)]
struct Whole<'a> {
    hardware: &'a Hardware,
    recommendations: &'a Recommendations,
    rationale: &'a str,
}

/// The recommendation for a machine, and how it came about.
pub fn of(hardware: &Hardware, environment: Environment) -> (Recommendations, String) {
    let threads = hardware.cpu_threads;
    let (base, share) = if hardware.has_gpu {
        (threads * 3 / 4, "3/4 of the threads, for the GPU encodes")
    } else {
        (threads / 4, "1/4 of the threads, for the CPU encodes")
    };
    let mut rationale = format!("{base} by CPU ({share})");
    let mut jobs = base;
    if environment == Environment::Development {
        jobs /= 2;
        rationale.push_str("; half of that for development");
    }
    let cap = match hardware.node_type {
        NodeType::Laptop => 4,
        NodeType::Desktop => 6,
        NodeType::Server => 12,
    };
    if jobs > cap {
        jobs = cap;
        rationale = format!("{rationale}; at most {cap} on this sort of machine");
    }
    match hardware.ram_bytes {
        Some(ram) => {
            let free = ram.saturating_sub(SYSTEM_BYTES.max(ram / 10));
            let fit = free / JOB_BYTES;
            if jobs > fit {
                jobs = fit;
                rationale = format!("{rationale}; {fit} fit into memory at 2 GiB a job");
            }
        }
        None => rationale.push_str("; memory is not known and was left out"),
    }
    if jobs == 0 {
        jobs = 1;
        rationale.push_str("; but at least 1");
    }
    let recommendations = Recommendations {
        max_concurrent_jobs: jobs,
        poll_interval: match environment {
            Environment::Production => "3s",
            Environment::Development | Environment::Staging => "5s",
        },
        metrics_port: METRICS_PORT,
        work_dir: WORK_DIR,
    };
    (recommendations, rationale)
}

/// Prints it.
pub fn recommend(environment: Environment, output: &mut Output) -> Result<ExitCode, Failure> {
    let hardware = Hardware::read(Path::new("/"));
    let (recommendations, rationale) = of(&hardware, environment);
    let whole = Whole {
        hardware: &hardware,
        recommendations: &recommendations,
        rationale: &rationale,
    };
    match output.format() {
        Format::Json => output.json(&whole)?,
        Format::Yaml => {
            let text = serde_saphyr::to_string(&whole)
                .map_err(|error| Failure::Typed(format!("--output yaml: {error}")))?;
            output.line(text.trim_end())?;
        }
        Format::Bash => output.line(&bash(&recommendations))?,
        Format::Csv => {
            return Err(Failure::Typed(
                "--output csv: a recommendation is no table; write text, json, yaml or bash".to_owned(),
            ));
        }
        Format::Table | Format::Wide => output.line(&text(&whole))?,
    }
    Ok(ExitCode::Success)
}

fn bash(set: &Recommendations) -> String {
    format!(
        "export MAX_CONCURRENT_JOBS={}\nexport POLL_INTERVAL={}\nexport METRICS_PORT={}\nexport WORK_DIR={}",
        set.max_concurrent_jobs, set.poll_interval, set.metrics_port, set.work_dir
    )
}

fn text(whole: &Whole<'_>) -> String {
    let Whole {
        hardware,
        recommendations: set,
        rationale,
    } = whole;
    let sort = match hardware.node_type {
        NodeType::Laptop => "laptop",
        NodeType::Desktop => "desktop",
        NodeType::Server => "server",
    };
    format!(
        "Hardware\n  CPU          {} ({} threads)\n  RAM          {}\n  GPU          {}\n  Sort         {sort}, {} {}\n\n\
         Recommendations\n  Jobs at once {}\n  Metrics port {}\n  Directory    {}\n\n\
         Why\n  {rationale}\n\n\
         Use\n  A node tells the scheduler its `max_concurrent_jobs` when it registers; it waits for work, so there is no interval \
         to set.\n  ffrtmp-governor --metrics 0.0.0.0:{} --ledger {}/governor.db",
        or_dash(hardware.cpu_model.as_deref(), harmless),
        hardware.cpu_threads,
        or_dash(hardware.ram_gb.as_deref(), str::to_owned),
        or_dash(hardware.gpu_type.as_deref(), harmless),
        hardware.os,
        hardware.architecture,
        set.max_concurrent_jobs,
        set.metrics_port,
        set.work_dir,
        set.metrics_port,
        set.work_dir,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_follow_threads_gpu_sort_environment_and_memory() {
        use Environment::{Development, Production, Staging};
        for (threads, gpu, gib, battery, environment, jobs) in [
            (8, false, 64, false, Production, 2),
            (8, false, 64, false, Development, 1),
            (8, true, 64, false, Staging, 6),
            (8, true, 64, true, Production, 4),
            (16, true, 64, false, Production, 6),
            (64, true, 256, false, Production, 12),
            (64, false, 256, false, Development, 8),
            // Memory that is short.
            (64, true, 16, false, Production, 6),
            (16, true, 8, false, Production, 3),
            (16, true, 4, false, Production, 1),
            // Never none.
            (1, false, 1, false, Development, 1),
        ] {
            let gpu = gpu.then(|| "NVIDIA".to_owned());
            let machine = Hardware::of(None, threads, Some(gib * GIB), gpu, battery);
            let (set, why) = of(&machine, environment);
            assert_eq!(
                set.max_concurrent_jobs, jobs,
                "{threads} {gib} {environment:?}: {why}"
            );
        }
        let unknown = Hardware::of(None, 8, None, None, false);
        assert!(of(&unknown, Production).1.contains("not known"));
    }
}
