//! Walks every example of the predecessor's user documents and front pages: each parses, and means what the document says.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail their test"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Parser;
use ffrtmp_api::{Intent, JobRequest, Limits};
use ffrtmp_cli::args::{Cli, Verb};
use ffrtmp_cli::client::args::SchedulerVerb;
use ffrtmp_cli::config::{ConfigVerb, Environment};
use ffrtmp_cli::jobs::args::JobsVerb;
use ffrtmp_cli::limits::resolve;
use ffrtmp_cli::nodes::NodesVerb;
use serde_json::Value;

const EXAMPLES: &str = include_str!("data/seed-examples.txt");
const FRONT_PAGES: &str = include_str!("data/seed-jobs.txt");
const DEVIATIONS: &str = include_str!("../../docs/seed-deviations.md");

/// What the documents' placeholders stand for here.
const PLACEHOLDERS: [(&str, &str); 9] = [
    ("<job-id>", "1"),
    ("$GSTREAMER_PID", "4242"),
    ("<PID>", "4242"),
    ("legacy-$pid", "legacy-4242"),
    ("$pid", "4242"),
    ("$JOB_ID", "job-12345"),
    ("$CPU_QUOTA", "200"),
    ("$MEMORY_LIMIT", "4096"),
    ("%N", "wrapped-service"),
];

struct Example {
    words: Vec<String>,
    meaning: String,
    deviations: BTreeSet<String>,
}

fn examples(file: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in file.lines() {
        let Some((mark, rest)) = line.split_once(' ') else {
            assert!(line.is_empty() || line == "#", "not understood: {line}");
            continue;
        };
        match mark {
            "#" => {}
            "$" => examples.push(Example {
                words: shlex::split(rest)
                    .unwrap()
                    .iter()
                    .map(|word| filled(word))
                    .collect(),
                meaning: String::new(),
                deviations: BTreeSet::new(),
            }),
            "=" => rest.clone_into(&mut examples.last_mut().unwrap().meaning),
            "!" => examples
                .last_mut()
                .unwrap()
                .deviations
                .extend(rest.split(' ').map(str::to_owned)),
            _ => panic!("not understood: {line}"),
        }
    }
    examples
}

fn filled(word: &str) -> String {
    let found = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == word);
    found.map_or(word, |(_, value)| value).to_owned()
}

/// The options in the notation of the data file, in a fixed order.
fn meaning(verb: &Verb) -> String {
    let mut words = Vec::new();
    match verb {
        Verb::Run(run) => {
            words.push("run".to_owned());
            words.extend(job(&run.job));
            words.extend(limits(&resolve(&run.limits)));
            assert!(run.timeout.is_none() && !run.interactive && run.workdir.is_none());
            words.extend(run.job.json.then(|| "json".to_owned()));
            words.push("--".to_owned());
            words.extend(run.command.iter().map(|word| word.to_str().unwrap().to_owned()));
        }
        Verb::Attach(attach) => {
            words.push("attach".to_owned());
            words.push(format!("pid={}", attach.pid));
            words.extend(job(&attach.job));
            words.extend(limits(&resolve(&attach.limits)));
            words.extend(attach.job.json.then(|| "json".to_owned()));
        }
        Verb::Watch(watch) => {
            words.push("watch".to_owned());
            if watch.scan_interval != Duration::from_secs(10) {
                words.push(format!("scan_interval={}s", watch.scan_interval.as_secs()));
            }
            if watch.target != ["ffmpeg", "gst-launch-1.0"] {
                words.push(format!("target={}", watch.target.join(",")));
            }
            words.extend(watch.enable_state.then(|| "enable_state".to_owned()));
            words.extend(watch.enable_retry.then(|| "enable_retry".to_owned()));
            let file = watch.watch_config.as_ref();
            words.extend(file.map(|file| format!("watch_config={}", file.display())));
            words.extend(limits(&watch.limits()));
        }
        Verb::Scheduler(verb) => words.extend(asked(verb)),
        other => panic!("{other:?} is none of the documents' verbs"),
    }
    canonical(&words)
}

/// What a scheduler is asked, its verb in the first word.
fn asked(verb: &SchedulerVerb) -> Vec<String> {
    match verb {
        SchedulerVerb::Jobs(jobs) => {
            let master = jobs.remote.master.as_ref();
            let master = master.map(|url| format!("master={url}"));
            match &jobs.verb {
                JobsVerb::Submit(args) => {
                    let mut items = ffrtmp_cli::jobs::batch::items(args).unwrap();
                    let job = serde_json::to_value(items.remove(0).job).unwrap();
                    let plain = serde_json::to_value(JobRequest::default()).unwrap();
                    let mut words = vec!["jobs submit".to_owned()];
                    words.extend(master);
                    differences("", &job, &plain, &mut words);
                    words
                }
                JobsVerb::Status(args) => {
                    vec!["jobs status".to_owned(), format!("job={}", args.job.unwrap())]
                }
                other => panic!("{other:?} is in no document"),
            }
        }
        SchedulerVerb::Nodes(nodes) if matches!(nodes.verb, NodesVerb::List) => vec!["nodes list".to_owned()],
        SchedulerVerb::Config(config) => match &config.verb {
            ConfigVerb::Recommend(args) => {
                assert_eq!(args.environment, Environment::Production);
                vec!["config recommend".to_owned(), "environment=production".to_owned()]
            }
            ConfigVerb::Check(_) => panic!("`config check` is in no document"),
        },
        other => panic!("{other:?} is in no document"),
    }
}

/// Fields that differ, as `a.b=value`.
fn differences(path: &str, value: &Value, plain: &Value, words: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                differences(&inner, value, &plain[name.as_str()], words);
            }
        }
        Value::String(text) if value != plain => words.push(format!("{path}={text}")),
        _ if value != plain => words.push(format!("{path}={value}")),
        _ => {}
    }
}

fn job(job: &ffrtmp_cli::args::JobFlags) -> Vec<String> {
    let intent = Intent::from(job.intent);
    let mut words = Vec::new();
    words.extend(job.job_id.as_ref().map(|id| format!("job_id={id}")));
    words.extend(job.sla_eligible.then(|| "sla_eligible".to_owned()));
    words.extend((intent != Intent::Production).then(|| format!("intent={intent}")));
    words
}

fn limits(limits: &Limits) -> Vec<String> {
    let value = serde_json::to_value(limits).unwrap();
    let fields = value.as_object().unwrap();
    fields
        .iter()
        .map(|(name, value)| match name.as_str() {
            "cpu_max" => format!("cpu_max={}", limits.cpu_max.unwrap()),
            _ => format!("{name}={value}"),
        })
        .collect()
}

/// Options sorted, the command as it is; `--` parts them.
fn canonical(words: &[String]) -> String {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (options, command) = words.split_at(end);
    let mut options = options.to_vec();
    options[1..].sort();
    let mut all = options;
    all.extend_from_slice(command);
    format!("{all:?}")
}

#[test]
fn every_example_means_what_its_document_says() {
    // Every one of the three documents and the two front pages, those that stand in one of them twice once.
    let (documents, front_pages) = (examples(EXAMPLES), examples(FRONT_PAGES));
    assert_eq!((documents.len(), front_pages.len()), (67, 30));
    let ours = |example: &Example| example.words[0] == "ffrtmp";
    for example in documents.into_iter().chain(front_pages).filter(ours) {
        let parsed = Cli::try_parse_from(&example.words);
        if example.meaning == "help" {
            assert_eq!(parsed.unwrap_err().kind(), clap::error::ErrorKind::DisplayHelp);
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{:?}: {error}", example.words));
        let mut wanted = shlex::split(&example.meaning).unwrap();
        if ["jobs", "nodes", "config"].contains(&wanted[0].as_str()) {
            let verb = wanted.remove(1);
            wanted[0] = [wanted[0].as_str(), &verb].join(" ");
        }
        let wanted = canonical(&wanted);
        assert_eq!(meaning(&parsed.verb), wanted, "{:?}", example.words);
    }
}

#[test]
fn the_list_of_deviations_and_the_examples_name_each_other() {
    let marked: BTreeSet<String> = [examples(EXAMPLES), examples(FRONT_PAGES)]
        .into_iter()
        .flatten()
        .flat_map(|example| example.deviations)
        .collect();
    let listed: BTreeSet<String> = DEVIATIONS
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.split_once(':').unwrap().0.to_owned())
        .collect();
    assert_eq!(marked, listed);
}
