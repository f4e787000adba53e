//! The figures as a page that can be pasted: each promise with what was measured beside it, the contenders side by side,
//! what each missed. Not measured is a dash.

use comfy_table::{ContentArrangement, Table, presets};

use super::super::stats::Summary;
use super::Results;
use super::duel::Row;
use super::judge::Verdict;
use super::peer::Who;

/// Renders one run.
pub(super) fn render(results: &Results, verdicts: &[Verdict]) -> String {
    let mut page = vec![
        format!("machine: {}", results.machine),
        settings(results),
        mode(results),
        promises(verdicts),
        contenders(results),
    ];
    page.extend(ratios(results));
    page.push(programs(results));
    page.push(spawns(results));
    page.join("\n\n")
}

fn settings(results: &Results) -> String {
    let settings = &results.settings;
    format!(
        "settings: {}release build; {} lone starts {} ms apart (lives of 50 ms, for a scan a tenth more than its interval); \
         storms of {} starts, {} rounds in turns; referee: perf on exec, cgroup_attach_task and exit, a placement is the \
         last move in any hierarchy; CPU time until 0.7 s after the last end; load after the run {:.2}; {} s in all",
        if settings.quick {
            "QUICK, not for the record; "
        } else {
            ""
        },
        settings.lone_starts,
        settings.lone_gap_ms,
        settings.storm_starts,
        settings.duel_rounds,
        results.load_after,
        results.took_s,
    )
}

fn mode(results: &Results) -> String {
    let mode = &results.mode;
    let stock = if results.stock.is_empty() {
        "; the machine was fast when the run began, so without fast placement nothing was measured"
    } else {
        ""
    };
    let births = mode.births.as_ref().map(|(before, after)| {
        format!(
            "\nwhat it changes for the whole host, before and after, median (least to most) of {} rounds: a thread's start and \
             end {} and {} us, those of /bin/true {} and {} us",
            before.exec_us.count,
            range(&before.thread_us),
            range(&after.thread_us),
            range(&before.exec_us),
            range(&after.exec_us),
        )
    });
    format!(
        "a lone move between groups: {:.0} us as found, {} us with fast placement ({}){stock}{}",
        mode.found_us,
        figure(mode.fast_us, 0),
        mode.said.as_deref().unwrap_or("not switched on"),
        births.unwrap_or_default(),
    )
}

fn range(summary: &Summary) -> String {
    format!(
        "{} ({} to {})",
        figure(summary.p50, 1),
        figure(summary.min, 1),
        figure(summary.max, 1)
    )
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        // A row is one line, however long, or it could not be pasted into a page.
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table
}

fn promises(verdicts: &[Verdict]) -> String {
    let mut table = table(&["promise", "wanted", "measured", "kept"]);
    for verdict in verdicts {
        let kept = match verdict.kept {
            Some(true) => "yes",
            Some(false) => "falls short",
            None => "not judged",
        };
        table.add_row([&verdict.promise, &verdict.wanted, &verdict.measured, kept]);
    }
    table.to_string()
}

/// Every contender, scene by scene.
fn contenders(results: &Results) -> String {
    let mut table = table(&[
        "exec → placed, us",
        "priority",
        "starts",
        "placed",
        "late",
        "missed",
        "p50",
        "p90",
        "p99",
        "max",
        "p50 to the CPU limit",
        "found",
        "p50, p99 to found",
        "CPU us a start",
        "RSS KiB (anon)",
    ]);
    let stock = results
        .stock
        .iter()
        .map(|row| (format!("{}, no fast placement: ", row.scene.name()), row));
    let rows = results
        .rows
        .iter()
        .map(|row| (format!("{}: ", row.scene.name()), row));
    for (scene, row) in stock.chain(rows) {
        table.add_row(line(&scene, row));
    }
    table.to_string()
}

fn line(scene: &str, row: &Row) -> Vec<String> {
    let us = |value: Option<f64>| figure(value, 0);
    let places = |count: usize| {
        if row.who.places() {
            count.to_string()
        } else {
            "-".to_owned()
        }
    };
    let found = row.found_us.as_ref();
    let memory = |kib: Option<u64>| kib.map_or_else(|| "-".to_owned(), |kib| kib.to_string());
    vec![
        format!("{scene}{}", row.who.name()),
        row.priority.name().to_owned(),
        row.starts.to_string(),
        places(row.placed),
        places(row.late),
        row.missed
            .map_or_else(|| "-".to_owned(), |count| count.to_string()),
        us(row.placed_us.p50),
        us(row.placed_us.p90),
        us(row.placed_us.p99),
        us(row.placed_us.max),
        us(row.limited_us.p50),
        row.found
            .map_or_else(|| "-".to_owned(), |count| count.to_string()),
        found.map_or_else(
            || "-".to_owned(),
            |found| format!("{}, {}", us(found.p50), us(found.p99)),
        ),
        format!("{:.0}", row.cpu_us),
        format!(
            "{} ({})",
            memory(row.memory.resident_kib),
            memory(row.memory.anon_kib)
        ),
    ]
}

/// Each peer's figures over ours, at the same priority in the same scene.
fn ratios(results: &Results) -> Option<String> {
    let mut table = table(&[
        "theirs over ours",
        "priority",
        "p50",
        "p90",
        "p99",
        "max",
        "CPU",
        "not placed in time",
    ]);
    for row in results.rows.iter().filter(|row| row.who != Who::Ours) {
        let ours = results
            .rows
            .iter()
            .find(|ours| ours.who == Who::Ours && ours.scene == row.scene && ours.priority == row.priority)?;
        let ratio =
            |of: fn(&Summary) -> Option<f64>| figure(over(of(&row.placed_us), of(&ours.placed_us)), 1);
        let late = |row: &Row| row.starts - row.placed;
        table.add_row([
            format!("{}: {}", row.scene.name(), row.who.name()),
            row.priority.name().to_owned(),
            ratio(|us| us.p50),
            ratio(|us| us.p90),
            ratio(|us| us.p99),
            ratio(|us| us.max),
            figure(over(Some(row.cpu_us), Some(ours.cpu_us)), 2),
            if row.who.places() {
                format!("{} against {}", late(row), late(ours))
            } else {
                "-".to_owned()
            },
        ]);
    }
    Some(table.to_string())
}

fn programs(results: &Results) -> String {
    let mut table = table(&["kernel program, unrelated starts", "runs", "ns a run"]);
    for program in &results.programs {
        table.add_row([
            program.name.clone(),
            program.runs.to_string(),
            format!("{:.0}", program.average_ns),
        ]);
    }
    table.to_string()
}

fn spawns(results: &Results) -> String {
    let spawn = &results.spawn;
    format!(
        "starts of /bin/true a second: {} without the governor, {} with it; of {} paired rounds the middle ratio is {}, the \
         ends {:.3} and {:.3}",
        figure(spawn.without_per_s, 0),
        figure(spawn.with_per_s, 0),
        results.settings.rounds,
        figure(spawn.ratio, 3),
        spawn.ratio_range.0,
        spawn.ratio_range.1,
    )
}

/// Median and 99th percentile in words.
pub(super) fn pair(summary: &Summary) -> String {
    format!(
        "p50 {} µs, p99 {} µs",
        figure(summary.p50, 0),
        figure(summary.p99, 0)
    )
}

/// The same of a row, with what was not placed in time.
pub(super) fn placed(row: &Row) -> String {
    format!(
        "{}, {} of {} in time",
        pair(&row.placed_us),
        row.placed,
        row.starts
    )
}

/// The ratio of two figures that are there.
pub(super) fn over(over: Option<f64>, under: Option<f64>) -> Option<f64> {
    over.zip(under)
        .filter(|(_, under)| *under > 0.0)
        .map(|(over, under)| over / under)
}

/// A figure, or a dash.
pub(super) fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// An amount of memory, or a dash.
pub(super) fn kib(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |kib| format!("{kib} KiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_dash() {
        assert_eq!(over(Some(3.0), Some(2.0)), Some(1.5));
        assert_eq!(over(Some(3.0), Some(0.0)), None);
        assert_eq!(over(None, Some(2.0)), None);
        assert_eq!(figure(None, 2), "-");
        assert_eq!(pair(&Summary::of(Vec::new())), "p50 - µs, p99 - µs");
    }
}
