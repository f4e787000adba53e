//! Many jobs out of a file or a pattern. Everything is read and checked before anything is sent; every fault is told with its
//! file and line.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use ffrtmp_api::{FieldError, JobRequest};
use serde_json::{Map, Value};

use super::args::{FileFormat, SubmitArgs};
use super::request::{checked, merged, of_flags, scalar};
use crate::failure::Failure;

/// Longest line, bytes: the scheduler takes no longer job.
const LINE_MOST: u64 = 1 << 20;
/// Most jobs of one command.
const JOBS_MOST: usize = 1_000_000;

/// Columns of text.
const TEXTS: &[&str] = &[
    "scenario",
    "scenario_name",
    "confidence",
    "engine",
    "encoder",
    "classification",
    "queue",
    "priority",
    "tenant",
    "tenant_id",
    "user_id",
    "idempotency_key",
];
/// Columns of numbers and switches.
const SCALARS: &[&str] = &["sla_eligible", "max_retries", "slots", "hold", "wrapper_enabled"];
/// Columns that stand for a field inside another.
const SHORT: &[(&str, &str, &str)] = &[
    ("duration", "parameters", "duration"),
    ("bitrate", "parameters", "bitrate"),
    ("input", "parameters", "input"),
    ("output", "parameters", "output"),
    ("cpu_limit", "resource_limits", "max_cpu_percent"),
    ("memory_limit", "resource_limits", "max_memory_mb"),
    ("timeout", "resource_limits", "timeout_sec"),
];
/// Fields whose entries are columns `FIELD.ENTRY`.
const OUTER: &[&str] = &[
    "parameters",
    "resource_limits",
    "wrapper_constraints",
    "node_labels",
];

/// One job and where it stands.
#[derive(Debug)]
pub struct Item {
    /// `jobs.csv line 3`, or the file that matched.
    pub place: String,
    /// The job.
    pub job: JobRequest,
}

/// The jobs that the flags ask for: one, those of a file, or one for each file that matches.
pub fn items(args: &SubmitArgs) -> Result<Vec<Item>, Failure> {
    let mut faults = Vec::new();
    let items = match (&args.file, &args.glob) {
        (Some(path), _) => of_file(args, path, &mut faults)?,
        (None, Some(pattern)) => of_pattern(args, pattern, &mut faults)?,
        (None, None) => {
            let job = checked(of_flags(args)).map_err(|errors| {
                let told: Vec<_> = errors.iter().map(super::request::as_flag).collect();
                Failure::Typed(told.join("\n"))
            })?;
            vec![Item {
                place: "the command line".to_owned(),
                job,
            }]
        }
    };
    if !faults.is_empty() {
        return Err(Failure::Typed(format!(
            "nothing was submitted, for {} of the jobs cannot be meant:\n{}",
            faults.len(),
            shortened(&faults)
        )));
    }
    if items.is_empty() {
        return Err(Failure::Typed(match &args.glob {
            Some(pattern) => format!("--glob {pattern}: no file matches"),
            None => "--file: it holds no job".to_owned(),
        }));
    }
    Ok(items)
}

/// The first faults; a wrong column makes one a line.
fn shortened(faults: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<&str> = faults.iter().take(SHOWN).map(String::as_str).collect();
    let text = shown.join("\n");
    match faults.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}\n(and {more} more)"),
    }
}

fn keep(
    place: String,
    job: Result<JobRequest, Vec<FieldError>>,
    items: &mut Vec<Item>,
    faults: &mut Vec<String>,
) {
    match job {
        Ok(job) => items.push(Item { place, job }),
        Err(errors) => {
            let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
            faults.push(format!("{place}: {}", told.join("; ")));
        }
    }
}

fn file_failed(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File {
        operation: "read the jobs in",
        path,
        source,
    }
}

fn of_file(args: &SubmitArgs, path: &Path, faults: &mut Vec<String>) -> Result<Vec<Item>, Failure> {
    let (name, reader): (String, Box<dyn Read>) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), Box::new(std::io::stdin()))
    } else {
        let file = std::fs::File::open(path).map_err(file_failed(path))?;
        (path.display().to_string(), Box::new(file))
    };
    let by_ending = match path.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => Some(FileFormat::Csv),
        Some("ndjson" | "jsonl" | "json") => Some(FileFormat::Ndjson),
        None if path.as_os_str() == "-" => Some(FileFormat::Ndjson),
        _ => None,
    };
    let Some(format) = args.format.or(by_ending) else {
        return Err(Failure::Typed(format!(
            "--file {name}: its ending does not say what it is; add --format ndjson or --format csv"
        )));
    };
    let flags = of_flags(args);
    match format {
        FileFormat::Ndjson => of_ndjson(&name, reader, &flags, faults).map_err(file_failed(path)),
        FileFormat::Csv => of_csv(&name, reader, &flags, faults),
    }
}

fn enough(items: &[Item], faults: &mut Vec<String>) -> bool {
    let full = items.len() >= JOBS_MOST;
    if full {
        faults.push(format!("there are more than {JOBS_MOST} jobs; split them"));
    }
    full
}

fn of_ndjson(
    name: &str,
    reader: Box<dyn Read>,
    flags: &Map<String, Value>,
    faults: &mut Vec<String>,
) -> std::io::Result<Vec<Item>> {
    let mut reader = BufReader::new(reader);
    let mut items = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LINE_MOST + 1).read_until(b'\n', &mut line)?;
        let place = format!("{name} line {number}");
        if read == 0 || enough(&items, faults) {
            break;
        }
        if read as u64 > LINE_MOST {
            faults.push(format!("{place}: is longer than {LINE_MOST} bytes"));
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(&line) {
            Ok(object) => keep(place, checked(merged(object, flags)), &mut items, faults),
            Err(error) => faults.push(format!(
                "{place}, column {}: is no JSON object on one line: {error}",
                error.column()
            )),
        }
    }
    Ok(items)
}

fn of_csv(
    name: &str,
    reader: Box<dyn Read>,
    flags: &Map<String, Value>,
    faults: &mut Vec<String>,
) -> Result<Vec<Item>, Failure> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(reader);
    let fault = |error: csv::Error| Failure::Typed(format!("{name}: {error}"));
    let header = reader.headers().map_err(fault)?.clone();
    if let Some(unknown) = header.iter().find(|column| cell(column, "x").is_none()) {
        let short: Vec<_> = SHORT.iter().map(|(column, _, _)| *column).collect();
        return Err(Failure::Typed(format!(
            "{name} line 1: column `{}` is not known; columns are {}, {}, {}, and parameters.NAME, resource_limits.NAME, \
             wrapper_constraints.NAME, node_labels.NAME",
            unknown.escape_debug(),
            TEXTS.join(", "),
            SCALARS.join(", "),
            short.join(", ")
        )));
    }
    let mut items = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                break;
            }
        }
        if enough(&items, faults) {
            break;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let job = merged(row(&header, &record), flags);
        keep(format!("{name} line {line}"), checked(job), &mut items, faults);
    }
    Ok(items)
}

/// One row as a submission. An empty cell says nothing.
fn row(header: &csv::StringRecord, record: &csv::StringRecord) -> Map<String, Value> {
    let mut job = Map::new();
    let cells = header.iter().zip(record).filter(|(_, text)| !text.is_empty());
    for (column, text) in cells {
        let Some((outer, field, value)) = cell(column, text) else {
            continue;
        };
        match outer {
            None => {
                job.insert(field.to_owned(), value);
            }
            Some(outer) => {
                let inner = job.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(inner) = inner {
                    inner.insert(field.to_owned(), value);
                }
            }
        }
    }
    job
}

/// Where a cell goes, and its value; `None` for a column that is not known.
fn cell<'a>(column: &'a str, text: &str) -> Option<(Option<&'a str>, &'a str, Value)> {
    let plain = || Value::String(text.to_owned());
    if TEXTS.contains(&column) {
        return Some((None, column, plain()));
    }
    if SCALARS.contains(&column) {
        return Some((None, column, scalar(text)));
    }
    if let Some((_, outer, field)) = SHORT.iter().find(|(short, _, _)| *short == column) {
        // A bitrate or a path is text even where it looks like a number.
        let value = match *field {
            "bitrate" | "input" | "output" => plain(),
            _ => scalar(text),
        };
        return Some((Some(outer), field, value));
    }
    let (outer, field) = column.split_once('.')?;
    let value = if outer == "node_labels" {
        plain()
    } else {
        scalar(text)
    };
    (OUTER.contains(&outer) && !field.is_empty()).then_some((Some(outer), field, value))
}

fn of_pattern(args: &SubmitArgs, pattern: &str, faults: &mut Vec<String>) -> Result<Vec<Item>, Failure> {
    let paths = glob::glob(pattern).map_err(|error| Failure::Typed(format!("--glob {pattern}: {error}")))?;
    let flags = of_flags(args);
    let mut items = Vec::new();
    for found in paths {
        let path = match found {
            Ok(path) if path.is_dir() => continue,
            Ok(path) => std::path::absolute(&path).unwrap_or(path),
            Err(error) => {
                faults.push(error.to_string());
                continue;
            }
        };
        let place = path.display().to_string();
        let Some(text) = path.to_str() else {
            faults.push(format!("{place}: its name is not UTF-8, so no job can carry it"));
            continue;
        };
        if enough(&items, faults) {
            break;
        }
        keep(place, checked(for_path(&flags, &path, text)), &mut items, faults);
    }
    Ok(items)
}

/// The flags' job with this file as its input and the parts of its path filled in.
fn for_path(flags: &Map<String, Value>, path: &Path, text: &str) -> Map<String, Value> {
    let part =
        |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).unwrap_or_default().to_owned();
    let parts = [
        ("{path}", text.to_owned()),
        ("{dir}", part(path.parent().map(Path::as_os_str))),
        ("{name}", part(path.file_name())),
        ("{stem}", part(path.file_stem())),
    ];
    let mut job = flags.clone();
    let parameters = job
        .entry("parameters")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(parameters) = parameters {
        for value in parameters.values_mut() {
            if let Value::String(template) = value {
                for (mark, part) in &parts {
                    *template = template.replace(mark, part);
                }
            }
        }
        parameters
            .entry("input")
            .or_insert_with(|| Value::String(text.to_owned()));
    }
    job
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(file: &str, text: &str) -> Result<Vec<Item>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        let args = SubmitArgs {
            file: Some(path.clone()),
            ..SubmitArgs::default()
        };
        items(&args).map_err(|error| error.chain().replace(&path.display().to_string(), file))
    }

    #[test]
    fn both_forms_of_file_say_the_same() {
        let csv = "scenario,duration,bitrate,queue,cpu_limit,node_labels.rack,hold\n1080p-h264,60,5M,batch,200,7,true\n";
        let json = r#"{"scenario":"1080p-h264","parameters":{"duration":60,"bitrate":"5M"},"queue":"batch",
            "resource_limits":{"max_cpu_percent":200},"node_labels":{"rack":"7"},"hold":true}"#
            .replace('\n', "");
        let csv = submit("a.csv", csv).unwrap();
        let json = submit("a.ndjson", &format!("\n{json}\n")).unwrap();
        assert_eq!(csv[0].job, json[0].job);
        assert!(csv[0].place.ends_with("line 2") && json[0].place.ends_with("line 2"));
    }

    #[test]
    fn every_fault_names_its_file_and_line() {
        for (file, text, told) in [
            (
                "a.csv",
                "scenario,duraton\nx,1\n",
                "a.csv line 1: column `duraton`",
            ),
            (
                "a.csv",
                "scenario,slots\ntranscode,1\ntranscode,0\n",
                "a.csv line 3: slots",
            ),
            ("a.csv", "scenario,slots\ntranscode\n", "a.csv"),
            ("a.csv", "scenario\n", "--file: it holds no job"),
            (
                "a.ndjson",
                "{\"scenario\":\"transcode\"}\n{\"scenario\":\n",
                "a.ndjson line 2, column",
            ),
            ("a.ndjson", "[1]\n", "a.ndjson line 1"),
            ("a.ndjson", "{\"scenario\":\"transcode\",\"bogus\":1}\n", "bogus"),
            ("a.txt", "x", "--format"),
        ] {
            let error = submit(file, text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_pattern_makes_a_job_of_each_file() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.mp4", "a.mp4", "c.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut args = SubmitArgs {
            scenario: Some("720p-h264".to_owned()),
            glob: Some(format!("{}/*.mp4", dir.path().display())),
            ..SubmitArgs::default()
        };
        args.job.params = vec![("output".to_owned(), "/out/{stem}.mkv".to_owned())];
        let found = items(&args).unwrap();
        let outputs: Vec<_> = found
            .iter()
            .map(|item| item.job.parameters["output"].as_str().unwrap())
            .collect();
        assert_eq!(outputs, ["/out/a.mkv", "/out/b.mkv"]);
        assert!(
            found[0].job.parameters["input"]
                .as_str()
                .unwrap()
                .ends_with("/a.mp4")
        );
    }
}
