//! The promises of docs/promises.md that this benchmark can judge, each with what was measured. Pure.

use serde::Serialize;

use super::duel::{Row, Scene};
use super::gate::Held;
use super::lost::{self, State};
use super::peer::Who;
use super::process::Priority;
use super::stall::Stall;
use super::{Results, page};

/// One promise and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// What is promised.
    pub(super) promise: String,
    /// The figure promised.
    pub(super) wanted: String,
    /// The figure measured.
    pub(super) measured: String,
    /// `None` where it was not measured, or where it cannot be told from what was.
    pub(super) kept: Option<bool>,
}

/// Judges a run.
pub(super) fn judge(results: &Results) -> Vec<Verdict> {
    let mut verdicts = vec![decision(results), lone(results)];
    verdicts.extend(storms(results));
    verdicts.extend(against_peer(results));
    verdicts.push(gate("idle", &results.gate.idle));
    verdicts.push(gate("saturated", &results.gate.saturated));
    verdicts.extend(results.stalls.iter().map(stalled));
    verdicts.extend(results.lost.iter().map(missed));
    verdicts.extend(costs(results));
    verdicts
}

fn verdict(promise: &str, wanted: &str, measured: String, kept: Option<bool>) -> Verdict {
    Verdict {
        promise: promise.to_owned(),
        wanted: wanted.to_owned(),
        measured,
        kept,
    }
}

/// Whether both figures are there and within their bounds.
fn within(p50: Option<f64>, most50: f64, p99: Option<f64>, most99: f64) -> Option<bool> {
    Some(p50? <= most50 && p99? <= most99)
}

fn decision(results: &Results) -> Verdict {
    let (lone, storm) = (&results.decided.lone, &results.decided.storm);
    let kept = within(lone.p50, 25.0, lone.p99, 150.0)
        .zip(within(storm.p50, 25.0, storm.p99, 150.0))
        .map(|(lone, storm)| lone && storm);
    verdict(
        "exec → decision",
        "p50 ≤ 25 µs, p99 ≤ 150 µs",
        format!("lone: {}; storm: {}", page::pair(lone), page::pair(storm)),
        kept,
    )
}

fn of(rows: &[Row], scene: Scene, who: Who, priority: Priority) -> Option<&Row> {
    rows.iter()
        .find(|row| row.scene == scene && row.who == who && row.priority == priority)
}

fn lone(results: &Results) -> Verdict {
    let row = of(&results.rows, Scene::Lone, Who::Ours, Priority::Fifo);
    let off = of(&results.stock, Scene::Lone, Who::Ours, Priority::Fifo);
    let told = |row: Option<&Row>| row.map_or_else(|| "not measured".to_owned(), page::placed);
    let fast = results.mode.fast_us.is_some_and(|us| us < 1_000.0);
    verdict(
        "exec → placed, lone, fast placement on",
        "p50 ≤ 150 µs, p99 ≤ 1 ms",
        format!("{}; without fast placement: {}", told(row), told(off)),
        row.filter(|_| fast).and_then(|row| {
            let times = within(row.placed_us.p50, 150.0, row.placed_us.p99, 1_000.0)?;
            Some(times && row.placed == row.starts)
        }),
    )
}

fn storms(results: &Results) -> Vec<Verdict> {
    [Scene::Short, Scene::Crowd]
        .into_iter()
        .filter_map(|scene| {
            let row = of(&results.rows, scene, Who::Ours, Priority::Fifo)?;
            Some(verdict(
                &format!("exec → placed, {}", scene.name()),
                "p50 ≤ 40 µs, p99 ≤ 150 µs",
                page::placed(row),
                within(row.placed_us.p50, 40.0, row.placed_us.p99, 150.0),
            ))
        })
        .collect()
}

fn against_peer(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for scene in [Scene::Short, Scene::Crowd] {
        for priority in [Priority::Normal, Priority::Fifo] {
            let row = |who| of(&results.rows, scene, who, priority);
            let Some((ours, peer)) = row(Who::Ours).zip(row(Who::Cgrulesengd)) else {
                continue;
            };
            let ratios = [
                page::over(ours.placed_us.p50, peer.placed_us.p50),
                page::over(ours.placed_us.p99, peer.placed_us.p99),
                page::over(Some(ours.cpu_us), Some(peer.cpu_us)),
            ];
            let told = ratios.map(|ratio| page::figure(ratio, 2));
            verdicts.push(verdict(
                &format!("over cgrulesengd's, {}, {}", scene.name(), priority.name()),
                "p50, p99, CPU per start ≤ 0.5",
                told.join(", "),
                ratios
                    .into_iter()
                    .collect::<Option<Vec<f64>>>()
                    .map(|ratios| ratios.iter().all(|ratio| *ratio <= 0.5)),
            ));
        }
    }
    verdicts
}

fn gate(name: &str, held: &Held) -> Verdict {
    let added = held.added_us();
    verdict(
        &format!("gate, {name} machine"),
        "100 % in their group at the first instruction, ≤ 100 µs of the holder's own work",
        format!(
            "{} of {}; p50 {} µs of own work, with wake-ups {} µs added to {} µs",
            held.in_time,
            held.execs,
            page::figure(held.own_us.map(|us| us as f64), 0),
            page::figure(added, 0),
            page::figure(held.without_us.p50, 0)
        ),
        held.own_us.map(|us| us <= 100 && held.in_time == held.execs),
    )
}

/// A promise of ours; what became of the peer stands beside it without being judged.
fn stalled(stall: &Stall) -> Verdict {
    let whole = stall.placed == stall.staying && stall.after_ms.max.is_some_and(|ms| ms <= 1_000.0);
    verdict(
        &format!("{} stopped through a storm of {}", stall.who.name(), stall.storm),
        "every long-lived target placed within 1 s of its return",
        format!(
            "{} of {}, the last after {} ms",
            stall.placed,
            stall.staying,
            page::figure(stall.after_ms.max, 0)
        ),
        (stall.who == Who::Ours).then_some(whole),
    )
}

fn missed(leg: &lost::Leg) -> Verdict {
    let beyond = leg.state == State::Dead && leg.lives > leg.room;
    let lost = leg.lost();
    let measured = format!(
        "{} lost: {} recorded, {} of them with arguments, {} refused and counted; {:.0}/s, all there after {:.1} s",
        lost, leg.recorded, leg.with_arguments, leg.refused, leg.per_s, leg.caught_up_s
    );
    let what = format!(
        "missed of {} lives, governor {}",
        leg.lives,
        lost::name(leg.state)
    );
    if beyond {
        let wanted = &format!("{} recorded, the others refused and counted", leg.room);
        return verdict(
            &what,
            wanted,
            measured,
            Some(lost == 0 && leg.recorded >= leg.room),
        );
    }
    let kept = lost == 0 && leg.refused == 0 && leg.with_arguments == leg.lives;
    verdict(&what, "0, and each with its arguments", measured, Some(kept))
}

fn costs(results: &Results) -> Vec<Verdict> {
    let mut verdicts = vec![programs(results)];
    verdicts.push(throughput(results));
    let idle = &results.idle;
    verdicts.push(verdict(
        "idle governor",
        "0 wake-ups a minute, RssAnon ≤ 15 MiB",
        format!(
            "{} context switches in {} s; {} anonymous, {} resident",
            idle.switches,
            idle.seconds,
            page::kib(idle.memory.anon_kib),
            page::kib(idle.memory.resident_kib)
        ),
        idle.memory
            .anon_kib
            .map(|kib| idle.switches == 0 && kib <= 15 * 1024),
    ));
    let adoption = &results.adoption_ms;
    verdicts.push(verdict(
        "restart → first placement, which is after the first decision",
        "≤ 150 ms",
        format!(
            "p50 {} ms, max {} ms of {}",
            page::figure(adoption.p50, 0),
            page::figure(adoption.max, 0),
            adoption.count
        ),
        adoption.max.map(|ms| ms <= 150.0),
    ));
    verdicts
}

/// Kept or not only where the rounds are many enough, and the machine still enough, to tell.
fn throughput(results: &Results) -> Verdict {
    let spawn = &results.spawn;
    let loss = spawn.ratio.map(|ratio| 1.0 - ratio);
    let doubt = spawn
        .noise
        .map(|noise| noise / f64::from(results.settings.rounds).sqrt());
    let percent = |share: Option<f64>| page::figure(share.map(|share| share * 100.0), 1);
    verdict(
        "spawn throughput lost to an unrelated program",
        "≤ 1 %",
        format!("{} ± {} %", percent(loss), percent(doubt)),
        loss.zip(doubt)
            .and_then(|(loss, doubt)| told_apart(loss, doubt, 0.01)),
    )
}

/// Whether a figure in doubt is surely within a bound, or surely not.
fn told_apart(figure: f64, doubt: f64, most: f64) -> Option<bool> {
    if figure + doubt <= most {
        Some(true)
    } else {
        (figure - doubt > most).then_some(false)
    }
}

/// By the names of the programs, where bpftool told them.
fn programs(results: &Results) -> Verdict {
    let bounds = [("exec", 300.0), ("fork", 150.0), ("exit", 300.0)];
    let found = bounds.map(|(word, most)| {
        let named = results
            .programs
            .iter()
            .filter(|program| program.name.contains(word));
        let slowest = named.map(|program| program.average_ns).max_by(f64::total_cmp);
        (word, slowest, most)
    });
    let measured = found.map(|(word, ns, _)| format!("{word} {}", page::figure(ns, 0)));
    let kept: Option<Vec<bool>> = found
        .iter()
        .map(|(_, ns, most)| ns.map(|ns| ns <= *most))
        .collect();
    verdict(
        "unrelated exec, fork, exit",
        "≤ 300, 150, 300 ns",
        format!(
            "{} ns, two clock reads of the measurement included",
            measured.join(", ")
        ),
        kept.map(|kept| kept.iter().all(|kept| *kept)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_only_for_figures_that_are_there() {
        assert_eq!(within(Some(1.0), 2.0, Some(3.0), 3.0), Some(true));
        assert_eq!(within(Some(1.0), 2.0, Some(4.0), 3.0), Some(false));
        assert_eq!(within(None, 2.0, Some(3.0), 3.0), None);
    }

    #[test]
    fn a_figure_within_its_doubt_of_the_bound_is_not_judged() {
        assert_eq!(told_apart(0.0, 0.005, 0.01), Some(true));
        assert_eq!(told_apart(0.0, 0.05, 0.01), None);
        assert_eq!(told_apart(0.1, 0.05, 0.01), Some(false));
    }

    #[test]
    fn beyond_the_map_what_is_refused_must_be_counted() {
        let leg = |recorded, refused| lost::Leg {
            state: State::Dead,
            room: 65_536,
            lives: 200_000,
            recorded,
            with_arguments: recorded,
            refused,
            per_s: 1.0,
            caught_up_s: 1.0,
        };
        assert_eq!(missed(&leg(65_536, 134_464)).kept, Some(true));
        assert_eq!(missed(&leg(65_536, 134_463)).kept, Some(false));
    }
}
