//! The figures as a page: each promise with what was measured beside it, then what there is no promise for.

use comfy_table::{ContentArrangement, Table, presets};

use super::Results;
use super::placement::Compared;
use super::stats::Summary;

/// Width of the tables; a page is read in a file as often as in a terminal.
const WIDTH: u16 = 120;

/// Renders one run.
pub(super) fn render(results: &Results) -> String {
    let settings = &results.settings;
    let mut page = vec![
        format!("machine: {}", results.machine),
        format!(
            "settings: {}release build; {} lone starts {} ms apart, {} starts back to back, each living {} ms; \
             the scan looks every {} ms; load after the run {:.2}",
            if settings.quick {
                "QUICK, not for the record; "
            } else {
                ""
            },
            settings.lone_starts,
            settings.lone_gap_ms,
            settings.storm_starts,
            settings.life_ms,
            settings.scan_interval_ms,
            results.load_after,
        ),
        times(results),
        promises(results),
        programs(results),
    ];
    page.extend(unplaced("lone starts", &results.lone));
    page.extend(unplaced("storm", &results.storm));
    page.join("\n\n")
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(header);
    table
}

fn times(results: &Results) -> String {
    let mut table = table(&["from the exec, us", "n", "p50", "p90", "p99", "max"]);
    for (name, compared) in [("lone", &results.lone), ("storm", &results.storm)] {
        table.add_row(line(&format!("{name}: decided"), &compared.decided_us));
        table.add_row(line(&format!("{name}: placed"), &compared.placed_us));
        table.add_row(line(
            &format!("{name}: placed by the scan"),
            &compared.scan_placed_us,
        ));
    }
    table.to_string()
}

fn line(name: &str, summary: &Summary) -> Vec<String> {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
    vec![
        name.to_owned(),
        summary.count.to_string(),
        figure(summary.p50),
        figure(summary.p90),
        figure(summary.p99),
        figure(summary.max),
    ]
}

fn promises(results: &Results) -> String {
    let mut table = table(&["measured", "figure"]);
    for (name, figure) in found(results).into_iter().chain(costs(results)) {
        table.add_row([name.to_owned(), figure]);
    }
    table.to_string()
}

/// How much earlier than the scan, and what each of the two misses.
fn found(results: &Results) -> Vec<(&'static str, String)> {
    let (lone, storm, found) = (&results.lone, &results.storm, &results.found);
    vec![
        (
            "scan's placement over ours, lone, p50",
            ratio(lone.scan_placed_us.p50, lone.placed_us.p50),
        ),
        (
            "scan's placement over ours, storm, p50",
            ratio(storm.scan_placed_us.p50, storm.placed_us.p50),
        ),
        (
            "lives of 0 to 5 ms with a full record",
            format!(
                "{} of {} at {:.0} starts/s",
                found.recorded, found.lives, found.per_s
            ),
        ),
        (
            "the same lives seen by the scan",
            format!("{} of {}", found.scan_saw, found.lives),
        ),
    ]
}

/// What the governor costs everybody else, and itself.
fn costs(results: &Results) -> Vec<(&'static str, String)> {
    let (spawn, idle, adoption) = (&results.spawn, &results.idle, &results.adoption_ms);
    vec![
        (
            "starts of /bin/true, with the governor over without",
            format!(
                "{} (rounds {:.3} to {:.3}; the machine alone varies by {})",
                figure(spawn.ratio, 3),
                spawn.ratio_range.0,
                spawn.ratio_range.1,
                spawn
                    .noise
                    .map_or_else(|| "-".to_owned(), |noise| format!("{:.1} %", noise * 100.0)),
            ),
        ),
        (
            "starts of /bin/true a second, without and with",
            format!(
                "{} and {}",
                figure(spawn.without_per_s, 0),
                figure(spawn.with_per_s, 0)
            ),
        ),
        (
            "idle governor, context switches",
            format!(
                "{} in {} s, {} threads",
                idle.switches, idle.seconds, idle.threads
            ),
        ),
        (
            "idle governor, memory",
            format!(
                "{} anonymous, {} resident",
                kib(idle.rss_anon_kib),
                kib(idle.rss_kib)
            ),
        ),
        (
            "start of the governor to a running process placed, ms",
            format!(
                "p50 {}, max {} of {}",
                figure(adoption.p50, 0),
                figure(adoption.max, 0),
                adoption.count
            ),
        ),
    ]
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

/// Figures that are missing from the percentiles, so that nobody takes them for the whole.
fn unplaced(name: &str, compared: &Compared) -> Option<String> {
    let missing = |count: usize| compared.starts.saturating_sub(count);
    let (ours, scan) = (
        missing(compared.placed_us.count),
        missing(compared.scan_placed_us.count),
    );
    (ours + scan > 0).then(|| {
        format!(
            "{name}: of {} starts {ours} were not placed by the governor and {scan} not by the scan",
            compared.starts
        )
    })
}

fn ratio(over: Option<f64>, under: Option<f64>) -> String {
    match (over, under) {
        (Some(over), Some(under)) if under > 0.0 => format!("{:.1}", over / under),
        _ => "-".to_owned(),
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn kib(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |kib| format!("{kib} KiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_dash() {
        assert_eq!(ratio(Some(3.0), Some(2.0)), "1.5");
        assert_eq!(ratio(Some(3.0), Some(0.0)), "-");
        assert_eq!(ratio(None, Some(2.0)), "-");
        assert_eq!(
            line("x", &Summary::of(Vec::new())),
            ["x", "0", "-", "-", "-", "-"]
        );
    }
}
