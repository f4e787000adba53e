//! What the node keeps for itself, and whether the rules together promise more than it has.
//!
//! Pure figures: the machine's size is handed in, sentences come out. Nothing is enforced and nothing is read here.

use ffrtmp_api::{CpuMax, Limits};

use super::plan::Controller;
use super::pressure::PressureRule;
use super::rule::RuleSet;

/// Policy of the node, beside the rules for jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodePolicy {
    /// What the rest of the host keeps.
    pub reserve: Reserve,
    /// What is lowered when something stalls.
    pub pressure: Vec<PressureRule>,
}

/// What is kept for everything that is not one of our jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Thousandths of a CPU.
    pub milli_cpus: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// The machine, as far as promises are weighed against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// CPUs online.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
}

/// Least that must be left for jobs, thousandths of a CPU: the kernel's smallest quota is 1 % of one.
const LEAST_MILLI_CPUS: u64 = 10;
/// Least memory that must be left for jobs, bytes: the smallest limit a job may have.
const LEAST_MEMORY: u64 = 1 << 20;

impl NodePolicy {
    /// Controllers whose groups must hold every job, so that what is held above them counts.
    pub fn controllers(&self) -> Vec<Controller> {
        let pressure = |asks: fn(&Limits) -> bool| self.pressure.iter().any(|rule| asks(&rule.limits));
        let cpu = pressure(|limits| limits.cpu_max.is_some() || limits.cpu_weight.is_some());
        let io = pressure(|limits| limits.io_weight.is_some());
        let wanted = [
            (Controller::Cpu, cpu || self.reserve.milli_cpus.is_some()),
            (Controller::Memory, self.reserve.memory.is_some()),
            (Controller::Io, io),
        ];
        let wanted = wanted.into_iter().filter(|(_, wanted)| *wanted);
        wanted.map(|(controller, _)| controller).collect()
    }
}

impl Reserve {
    /// The ceiling for all jobs together, or why the reserve cannot be meant on this machine. A part that cannot be
    /// is left out of the ceiling.
    pub fn ceiling(&self, machine: Machine) -> (Limits, Vec<String>) {
        let mut limits = Limits::default();
        let mut wrong = Vec::new();
        if let Some(reserved) = self.milli_cpus {
            let left = milli_cpus(machine).saturating_sub(u64::from(reserved));
            if left < LEAST_MILLI_CPUS {
                wrong.push(format!(
                    "reserve_cpus {} is not enforced: this machine has {} CPUs and nothing would be left for jobs",
                    cpus(u64::from(reserved)),
                    machine.cpus
                ));
            } else {
                limits.cpu_max = Some(CpuMax {
                    quota_us: Some(left * CpuMax::DEFAULT_PERIOD_US / 1000),
                    period_us: CpuMax::DEFAULT_PERIOD_US,
                });
            }
        }
        if let Some(reserved) = self.memory {
            let left = machine.memory.saturating_sub(reserved);
            if left < LEAST_MEMORY {
                wrong.push(format!(
                    "reserve_memory {} is not enforced: this machine has {} and nothing would be left for jobs",
                    mib(reserved),
                    mib(machine.memory)
                ));
            } else {
                limits.memory_max = Some(left);
            }
        }
        (limits, wrong)
    }
}

/// One limit of one holder: whose, and how much (thousandths of a CPU, or bytes).
type Claim<'a> = (&'a str, u64);

/// Sentences with figures for whatever the rules ask beyond the machine (less its reserve): a rule that alone asks for
/// more, and rules that do so together when each has a single job.
pub fn overcommit(rules: &RuleSet, reserve: Reserve, machine: Machine) -> Vec<String> {
    let named = |limit: fn(&Limits) -> Option<u64>| -> Vec<Claim<'_>> {
        let claims = rules.rules().iter();
        claims
            .filter_map(|rule| Some((rule.name.as_str(), limit(&rule.limits)?)))
            .collect()
    };
    weighed(
        &named(asked_milli_cpus),
        &named(|limits| limits.memory_max),
        ("rules", "if each has one job"),
        reserve,
        machine,
    )
}

/// The same for jobs that live: their ids and limits.
pub fn overcommit_live(jobs: &[(String, Limits)], reserve: Reserve, machine: Machine) -> Vec<String> {
    let named = |limit: fn(&Limits) -> Option<u64>| -> Vec<Claim<'_>> {
        let claims = jobs.iter();
        claims
            .filter_map(|(name, limits)| Some((name.as_str(), limit(limits)?)))
            .collect()
    };
    weighed(
        &named(asked_milli_cpus),
        &named(|limits| limits.memory_max),
        ("live jobs", "at this moment"),
        reserve,
        machine,
    )
}

fn weighed(
    cpu: &[Claim<'_>],
    memory: &[Claim<'_>],
    words: (&str, &str),
    reserve: Reserve,
    machine: Machine,
) -> Vec<String> {
    let all_cpus = milli_cpus(machine);
    let kept = u64::from(reserve.milli_cpus.unwrap_or(0));
    let cpu = one_kind(
        cpu,
        words,
        ("CPU quotas", percent),
        (all_cpus, all_cpus.saturating_sub(kept)),
    );
    let kept = reserve.memory.unwrap_or(0);
    let memory = one_kind(
        memory,
        words,
        ("memory limits", mib),
        (machine.memory, machine.memory.saturating_sub(kept)),
    );
    cpu.into_iter().chain(memory).collect()
}

fn one_kind(
    claims: &[Claim<'_>],
    (holders, when): (&str, &str),
    (what, show): (&str, fn(u64) -> String),
    (all, left): (u64, u64),
) -> Option<String> {
    let sum = claims
        .iter()
        .fold(0u64, |sum, (_, claim)| sum.saturating_add(*claim));
    if sum <= left {
        return None;
    }
    let each: Vec<String> = claims
        .iter()
        .map(|(name, claim)| format!("{name} {}", show(*claim)))
        .collect();
    let kept = if left < all {
        format!(", {} of it for jobs after the reserve", show(left))
    } else {
        String::new()
    };
    Some(format!(
        "{what} of the {holders} add up to {} {when} ({}), and this machine has {}{kept}",
        show(sum),
        each.join(", "),
        show(all)
    ))
}

fn milli_cpus(machine: Machine) -> u64 {
    u64::from(machine.cpus) * 1000
}

fn asked_milli_cpus(limits: &Limits) -> Option<u64> {
    let max = limits.cpu_max?;
    Some(max.quota_us?.saturating_mul(1000) / max.period_us.max(1))
}

/// Percent of one core, as users write quotas.
fn percent(milli: u64) -> String {
    format!("{} %", milli.div_ceil(10))
}

fn cpus(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rule::Rule;

    const MACHINE: Machine = Machine {
        cpus: 2,
        memory: 4096 << 20,
    };

    fn rules(quotas: &[(u32, u64)]) -> RuleSet {
        let rules = quotas.iter().enumerate().map(|(number, (percent, mib))| {
            let limits = Limits {
                cpu_max: CpuMax::from_percent(*percent),
                memory_max: (*mib > 0).then_some(mib << 20),
                ..Limits::default()
            };
            Rule::for_command(format!("r{number}"), "ffmpeg".to_owned(), limits)
        });
        RuleSet::new(rules.collect())
    }

    #[test]
    fn quotas_that_fit_are_no_news_and_those_that_do_not_are_told_with_their_figures() {
        let none = Reserve::default();
        assert_eq!(
            overcommit(&rules(&[(100, 1024), (100, 3072)]), none, MACHINE),
            [""; 0]
        );
        assert_eq!(overcommit(&rules(&[(0, 0)]), none, MACHINE), [""; 0]);
        assert_eq!(
            overcommit(&rules(&[(150, 0), (80, 0)]), none, MACHINE),
            [
                "CPU quotas of the rules add up to 230 % if each has one job (r0 150 %, r1 80 %), and this machine has 200 %"
            ]
        );
        let reserve = Reserve {
            milli_cpus: Some(500),
            memory: Some(1024 << 20),
        };
        assert_eq!(
            overcommit(&rules(&[(160, 3500)]), reserve, MACHINE),
            [
                "CPU quotas of the rules add up to 160 % if each has one job (r0 160 %), and this machine has 200 %, 150 % of it for jobs after the reserve",
                "memory limits of the rules add up to 3500 MiB if each has one job (r0 3500 MiB), and this machine has 4096 MiB, 3072 MiB of it for jobs after the reserve"
            ]
        );
    }

    #[test]
    fn live_jobs_are_weighed_by_what_they_asked() {
        let limits = Limits {
            cpu_max: CpuMax::from_percent(150),
            ..Limits::default()
        };
        let jobs = [("a".to_owned(), limits.clone()), ("b".to_owned(), limits)];
        assert_eq!(
            overcommit_live(&jobs, Reserve::default(), MACHINE),
            [
                "CPU quotas of the live jobs add up to 300 % at this moment (a 150 %, b 150 %), and this machine has 200 %"
            ]
        );
    }

    #[test]
    fn every_job_is_where_the_ceilings_are() {
        let mut policy = NodePolicy::default();
        assert_eq!(policy.controllers(), []);
        policy.reserve.memory = Some(1);
        assert_eq!(policy.controllers(), [Controller::Memory]);
        policy.reserve.milli_cpus = Some(1);
        assert_eq!(policy.controllers(), [Controller::Cpu, Controller::Memory]);
    }

    #[test]
    fn the_ceiling_is_the_machine_less_the_reserve_and_never_nothing() {
        let reserve = |milli, memory| Reserve {
            milli_cpus: milli,
            memory,
        };
        let (limits, wrong) = reserve(Some(500), Some(1024 << 20)).ceiling(MACHINE);
        assert_eq!(limits.cpu_max.unwrap().to_string(), "150000 100000");
        assert_eq!(limits.memory_max, Some(3072 << 20));
        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            reserve(None, None).ceiling(MACHINE),
            (Limits::default(), Vec::new())
        );
        let (limits, wrong) = reserve(Some(2000), Some(4096 << 20)).ceiling(MACHINE);
        assert_eq!(limits, Limits::default());
        assert_eq!(
            wrong,
            [
                "reserve_cpus 2 is not enforced: this machine has 2 CPUs and nothing would be left for jobs",
                "reserve_memory 4096 MiB is not enforced: this machine has 4096 MiB and nothing would be left for jobs"
            ]
        );
    }
}
