//! The governor and its peers on the same starts, at the same priority, in turns: A, B, …, then A, B, … again. Each runs
//! alone, and the referee says what became of every process.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::super::stats::Summary;
use super::Settings;
use super::lives::{self, Life, Verdict};
use super::peer::{Running, Who};
use super::process::{self, Memory, Priority};
use super::referee::Referee;
use super::stage;
use super::storm::{self, Pace, Starts};
use super::target::Target;

/// After the last end: for placements that come late, and for what a contender still has to do with what it found.
const AFTERMATH: Duration = Duration::from_millis(700);

/// How the targets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Scene {
    /// One at a time, so far apart that the kernel's lock has gone cold; each lives as long as the contender needs.
    Lone,
    /// Flat out, four at a time, each living 0 to 5 ms.
    Short,
    /// Flat out, up to 64 at a time, each living 50 ms.
    Crowd,
}

impl Scene {
    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lone => "lone",
            Self::Short => "storm, 0 to 5 ms",
            Self::Crowd => "storm, 50 ms",
        }
    }

    fn starts(self, who: Who, settings: &Settings) -> Starts {
        let (count, life, pace) = match self {
            Self::Lone => (
                settings.lone_starts,
                storm::Life::Of(who.needs()),
                Pace::Every(Duration::from_millis(settings.lone_gap_ms)),
            ),
            Self::Short => (settings.storm_starts, storm::Life::Short, Pace::AtOnce(4)),
            Self::Crowd => (
                settings.storm_starts,
                storm::Life::Of(Duration::from_millis(50)),
                Pace::AtOnce(64),
            ),
        };
        Starts { count, life, pace }
    }
}

/// One contender at one priority in one scene, all rounds together.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Who.
    pub(super) who: Who,
    /// At which priority.
    pub(super) priority: Priority,
    /// In which scene.
    pub(super) scene: Scene,
    /// Targets that started, as the referee saw them.
    pub(super) starts: usize,
    /// Those in their group while they lived.
    pub(super) placed: usize,
    /// Those moved after their end.
    pub(super) late: usize,
    /// Those never moved. `None` for a contender that moves nothing.
    pub(super) missed: Option<usize>,
    /// From the exec to the last move.
    pub(super) placed_us: Summary,
    /// From the exec to the move in the hierarchy that limits CPU time.
    pub(super) limited_us: Summary,
    /// Those the contender said it found; only of those that say so.
    pub(super) found: Option<usize>,
    /// From the exec to its saying so.
    pub(super) found_us: Option<Summary>,
    /// CPU time of the contender for each start, in microseconds.
    pub(super) cpu_us: f64,
    /// Its memory at the end of the last round.
    pub(super) memory: Memory,
    /// Starts a second in the last round.
    pub(super) per_s: f64,
    /// What the plot is drawn from.
    #[serde(skip)]
    pub(super) all_placed_us: Vec<f64>,
}

/// What has come together of one row so far.
#[derive(Default)]
struct Sum {
    lives: Vec<Life>,
    found_us: Vec<f64>,
    cpu_ns: u64,
    memory: Memory,
    per_s: f64,
}

/// One contender at one priority: started once a round for all its scenes.
struct Bout {
    who: Who,
    priority: Priority,
    scenes: Vec<Scene>,
}

/// Who meets whom, and how often.
pub(super) struct Card {
    /// In order of a round.
    bouts: Vec<Bout>,
    rounds: usize,
    /// For the governor's configuration.
    extra: String,
}

impl Card {
    /// Everybody in both storms at both priorities, in rounds; a scan so rare that it sees one storm in a dozen only once.
    pub(super) fn storms(settings: &Settings, extra: &str) -> Self {
        let mut bouts = Vec::new();
        for priority in [Priority::Normal, Priority::Fifo] {
            let often = |who: &Who| !matches!(who, Who::Scan(10_000));
            let meets = |who: &Who| often(who) || (priority == Priority::Normal && !settings.quick);
            bouts.extend(Who::ALL.into_iter().filter(meets).map(|who| Bout {
                who,
                priority,
                scenes: vec![Scene::Short, Scene::Crowd],
            }));
        }
        Self {
            bouts,
            rounds: settings.duel_rounds,
            extra: extra.to_owned(),
        }
    }

    /// Lone starts, once: those who are told at both priorities, scans at the normal one, for what they wait for is time.
    pub(super) fn lone(extra: &str) -> Self {
        let meets = |who: &Who, priority| match who {
            Who::Ours | Who::Cgrulesengd => true,
            Who::Execsnoop | Who::Scan(_) => priority == Priority::Normal,
        };
        let mut bouts = Vec::new();
        for priority in [Priority::Normal, Priority::Fifo] {
            let met = Who::ALL.into_iter().filter(|who| meets(who, priority));
            bouts.extend(met.map(|who| Bout {
                who,
                priority,
                scenes: vec![Scene::Lone],
            }));
        }
        Self {
            bouts,
            rounds: 1,
            extra: extra.to_owned(),
        }
    }

    /// The governor alone, as it comes.
    pub(super) fn alone() -> Self {
        Self {
            bouts: vec![Bout {
                who: Who::Ours,
                priority: Priority::Fifo,
                scenes: vec![Scene::Lone, Scene::Short, Scene::Crowd],
            }],
            rounds: 1,
            extra: String::new(),
        }
    }

    /// Holds all of it.
    pub(super) fn hold(&self, binaries: &Path, settings: &Settings) -> Result<Vec<Row>> {
        let target = Target::new(binaries)?;
        let hierarchy = stage::cpu_hierarchy_number()?;
        let none = |bout: &Bout| bout.scenes.iter().map(|_| Sum::default()).collect();
        let mut sums: Vec<Vec<Sum>> = self.bouts.iter().map(none).collect();
        for round in 1..=self.rounds {
            println!("   round {round} of {}", self.rounds);
            for (sums, bout) in sums.iter_mut().zip(&self.bouts) {
                bout.fight(binaries, &target, settings, &self.extra, sums)
                    .with_context(|| format!("{}, {}", bout.who.name(), bout.priority.name()))?;
            }
        }
        let bouts = sums.into_iter().zip(&self.bouts);
        let rows = bouts.flat_map(|(sums, bout)| {
            let scenes = sums.into_iter().zip(&bout.scenes);
            scenes.map(move |(sum, scene)| sum.row(*scene, bout.who, bout.priority, hierarchy))
        });
        Ok(rows.collect())
    }
}

impl Bout {
    /// One round of it.
    fn fight(
        &self,
        binaries: &Path,
        target: &Target,
        settings: &Settings,
        extra: &str,
        sums: &mut [Sum],
    ) -> Result<()> {
        let running = Running::start(self.who, self.priority, binaries, target, extra)?;
        for (sum, scene) in sums.iter_mut().zip(&self.scenes) {
            let starts = scene.starts(self.who, settings);
            play(&running, target, starts, sum).context(scene.name())?;
        }
        running.close()
    }
}

/// One scene of a contender that runs.
fn play(running: &Running, target: &Target, starts: Starts, sum: &mut Sum) -> Result<()> {
    let referee = Referee::watch(target.path(), target, running.groups().as_deref())?;
    let before = process::cpu_ns(running.pid())?;
    sum.per_s = starts.run(target, 0)?;
    std::thread::sleep(AFTERMATH);
    sum.cpu_ns += process::cpu_ns(running.pid())?.saturating_sub(before);
    sum.memory = process::memory(running.pid())?;
    let lives = lives::join(referee.verdict()?);
    if lives.len() != starts.count {
        bail!("the referee saw {} of {} starts", lives.len(), starts.count);
    }
    sum.found_us.extend(found(&lives, &running.found()));
    sum.lives.extend(lives);
    Ok(())
}

/// From the exec to the first line that names the process, of those that one names.
fn found(lives: &[Life], lines: &[(u32, u64)]) -> Vec<f64> {
    let mut told: HashMap<u32, Vec<u64>> = HashMap::new();
    for (pid, at) in lines {
        told.entry(*pid).or_default().push(*at);
    }
    // A pid that came again within one run was found as often as it has lines, at most.
    lives
        .iter()
        .filter_map(|life| {
            let at = told
                .get(&life.pid)?
                .iter()
                .filter(|at| **at >= life.exec_ns)
                .min()?;
            Some(life.until(*at))
        })
        .collect()
}

impl Sum {
    fn row(self, scene: Scene, who: Who, priority: Priority, hierarchy: u32) -> Row {
        let placed = |verdicts: &mut dyn Iterator<Item = Verdict>| -> Vec<f64> {
            verdicts
                .filter_map(|verdict| match verdict {
                    Verdict::Placed(us) => Some(us),
                    Verdict::Late | Verdict::Missed => None,
                })
                .collect()
        };
        let count = |wanted: Verdict| self.lives.iter().filter(|life| life.verdict() == wanted).count();
        let all = placed(&mut self.lives.iter().map(Life::verdict));
        let limited = placed(&mut self.lives.iter().map(|life| life.verdict_in(hierarchy)));
        let says = matches!(who, Who::Execsnoop | Who::Scan(_));
        Row {
            who,
            priority,
            scene,
            starts: self.lives.len(),
            placed: all.len(),
            late: count(Verdict::Late),
            missed: who.places().then(|| count(Verdict::Missed)),
            placed_us: Summary::of(all.clone()),
            limited_us: Summary::of(limited),
            found: says.then_some(self.found_us.len()),
            found_us: says.then(|| Summary::of(self.found_us)),
            cpu_us: self.cpu_ns as f64 / 1e3 / self.lives.len() as f64,
            memory: self.memory,
            per_s: self.per_s,
            all_placed_us: all,
        }
    }
}
