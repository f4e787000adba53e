//! The demo's closing table, from the JSON that `ffrtmp ps --all --output json` prints.
//!
//! A figure that is absent there is "-" here, never 0.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::Value;

use super::jobs;

const COLUMNS: [&str; 9] = [
    "job",
    "command",
    "how found",
    "placed in",
    "limits applied",
    "CPU s",
    "read/written",
    "peak memory",
    "exit reason, sender",
];

/// Width when standard output is no terminal.
const WIDTH: u16 = 210;

/// Columns that must not break there, with their widths: command, limits, exit reason.
const WIDE: [(usize, u16); 3] = [(1, 30), (4, 35), (8, 45)];

/// Characters of a command that are shown.
const COMMAND_CHARS: usize = 60;

/// Renders the jobs as plain text, in the order in which they were started.
pub(super) fn render(views: &[Value]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_FULL)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(COLUMNS);
    if !table.is_tty() {
        table.set_width(WIDTH);
        for (column, width) in WIDE {
            if let Some(column) = table.column_mut(column) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
            }
        }
    }
    let mut views: Vec<&Value> = views.iter().collect();
    views.sort_by_key(|view| {
        jobs::JOBS
            .iter()
            .position(|job| jobs::command(view).contains(job.mark))
    });
    for view in views {
        table.add_row(row(view));
    }
    table.to_string()
}

fn row(view: &Value) -> [String; 9] {
    let report = &view["report"];
    let usage = &report["usage"];
    let found = view["found"].as_str().map(str::to_lowercase);
    [
        text(&report["job_id"]),
        shortened(&jobs::command(view)),
        format!(
            "{} ({})",
            found.unwrap_or_else(|| "-".to_owned()),
            text(&report["tier"])
        ),
        number(&report["placement"]["placed_in_us"])
            .map_or_else(|| "-".to_owned(), |us| format!("{us:.0} us")),
        limits(&report["limits"]),
        number(&usage["cpu_sec"]).map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}")),
        format!(
            "{} /\n{}",
            bytes(&usage["read_bytes"]),
            bytes(&usage["write_bytes"])
        ),
        bytes(&usage["memory_peak_bytes"]),
        ending(report),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn shortened(command: &str) -> String {
    if command.is_empty() {
        return "-".to_owned();
    }
    // What the jobs share says nothing.
    let command = command.replace(" -hide_banner -loglevel error -nostdin -y", "");
    if command.chars().count() <= COMMAND_CHARS {
        return command;
    }
    let half = (COMMAND_CHARS - 3) / 2;
    let head: String = command.chars().take(half).collect();
    let tail: Vec<char> = command.chars().rev().take(half).collect();
    format!("{head}...{}", tail.into_iter().rev().collect::<String>())
}

fn limits(limits: &Value) -> String {
    let applied = limits["applied"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let shown: Vec<String> = applied
        .iter()
        .map(|one| format!("{} {}", name(one), text(&one["value"])))
        .collect();
    if shown.is_empty() {
        "-".to_owned()
    } else {
        shown.join("\n")
    }
}

/// The kernel's own name of a limit, where it is a file; a v1 limit may take two.
fn name(limit: &Value) -> String {
    let target = limit["target"].as_str().filter(|target| target.starts_with('/'));
    target
        .and_then(|path| path.rsplit('/').next())
        .map_or_else(|| text(&limit["limit"]), str::to_owned)
}

fn bytes(value: &Value) -> String {
    let Some(bytes) = value.as_u64() else {
        return "-".to_owned();
    };
    let mut scaled = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if scaled < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{scaled:.1} {unit}")
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} GiB")
}

fn ending(report: &Value) -> String {
    let exit = &report["exit"];
    let reason = match report["exit_reason"].as_str() {
        None => return "running".to_owned(),
        Some("error") => format!("error, exit code {}", exit["code"]),
        Some("signal") => format!("signal {}", exit["signal"]),
        Some("oom") => format!("oom ({})", text(&exit["scope"])),
        Some(other) => other.to_owned(),
    };
    match sender(&report["killed_by"]) {
        Some(sender) => format!("{reason}, by {sender}"),
        None => reason,
    }
}

fn sender(sender: &Value) -> Option<String> {
    Some(match sender["kind"].as_str()? {
        "process" => format!(
            "{}[{}] of uid {}",
            text(&sender["comm"]),
            sender["pid"],
            sender["uid"]
        ),
        other => other.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_figures_are_dashes_and_the_sender_is_named() {
        let view = json!({"found": "Exec", "report": {
            "job_id": "auto-ffmpeg-7", "command": ["ffmpeg", "x.mkv"], "tier": "kernel",
            "exit_reason": "signal", "exit": {"kind": "signal", "signal": 9},
            "killed_by": {"kind": "process", "pid": 8, "uid": 0, "comm": "nightly-cleanup"},
            "limits": {"applied": [
                {"limit": "cpu_max", "target": "/sys/fs/cgroup/x/cpu.max", "value": "50000 100000"},
                {"limit": "nice", "target": "setpriority", "value": "5"},
            ]},
            "placement": {"placed_in_us": 93},
            "usage": {"cpu_sec": 1.234, "read_bytes": 0, "write_bytes": 5_242_880, "memory_peak_bytes": null},
        }});
        assert_eq!(
            row(&view),
            [
                "auto-ffmpeg-7",
                "ffmpeg x.mkv",
                "exec (kernel)",
                "93 us",
                "cpu.max 50000 100000\nnice 5",
                "1.23",
                "0 B /\n5.0 MiB",
                "-",
                "signal 9, by nightly-cleanup[8] of uid 0",
            ]
        );
        assert_eq!(
            row(&json!({}))[4..8],
            ["-", "-", "- /\n-", "-"].map(str::to_owned)
        );
    }

    #[test]
    fn a_long_command_keeps_both_ends() {
        let long = format!("ffmpeg {} out.mkv", "-x ".repeat(50));
        let short = shortened(&long);
        assert!(
            short.chars().count() <= COMMAND_CHARS
                && short.starts_with("ffmpeg")
                && short.ends_with("out.mkv")
        );
    }
}
