//! Every example of the predecessor's front pages that needs a scheduler, given to a real one: the job it makes is the job it
//! means.

use serde_json::Value;

use crate::world::{FakeNode, World};

const FRONT_PAGES: &str = include_str!("../data/seed-jobs.txt");

fn examples() -> Vec<(Vec<String>, Vec<String>)> {
    let line = |mark: &'static str| {
        FRONT_PAGES
            .lines()
            .filter_map(move |line| line.strip_prefix(mark))
    };
    let words = |text: &str| shlex::split(text).unwrap();
    line("$ ").map(words).zip(line("= ").map(words)).collect()
}

#[test]
fn every_example_of_the_front_pages_does_what_it_says() {
    let world = World::new();
    let node = FakeNode::join(&world, "node-a");
    let (mut submitted, mut others) = (0, 0);
    for (words, meaning) in examples() {
        let url = world.url();
        let words: Vec<String> = words
            .iter()
            .map(|word| {
                word.replace("https://MASTER_IP:8080", &url)
                    .replace("<job-id>", "1")
            })
            .collect();
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        match (words[0].as_str(), args[0], args[1]) {
            ("ffrtmp", "jobs", "submit") => {
                let job = world.run(&[&args[..], &["-o", "json"]].concat()).ends(0).json();
                for wanted in meaning.iter().filter(|word| !word.starts_with("master=")).skip(2) {
                    let (path, value) = wanted.split_once('=').unwrap();
                    let found = path.split('.').fold(&job, |value, field| &value[field]);
                    let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                    assert_eq!(found, value, "{path} of {words:?}");
                }
                submitted += 1;
            }
            ("ffrtmp", "jobs", _) => {
                let said = world.run(&[&args[..], &["-o", "json"]].concat()).ends(0);
                assert_eq!(said.json()["sequence_number"], 1);
                others += 1;
            }
            ("ffrtmp", "nodes", _) => {
                let said = world.run(&args).ends(0);
                assert!(said.out.contains(&node.id), "{said:?}");
                others += 1;
            }
            ("ffrtmp", "config", _) => {
                let said = world.run(&args).ends(0);
                assert!(said.out.contains("Jobs at once"), "{said:?}");
                only_flags_that_exist(&said.out);
                others += 1;
            }
            ("curl", ..) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let path = [meaning[1].as_str()];
                let refused = runtime
                    .block_on(world.client(None).get::<Value>(&path, &[]))
                    .unwrap_err();
                assert_eq!(u8::from(refused.exit()), 6, "{refused}");
                others += 1;
            }
            // These need no scheduler; `tests/seeds.rs` and the suites of the governor have them.
            ("ffrtmp", "run" | "attach" | "watch", _) => {}
            _ => panic!("{words:?} is not walked"),
        }
    }
    assert_eq!((submitted, others), (21, 6));
}

/// Every flag in a recommendation is one of the program's that it is written behind.
fn only_flags_that_exist(text: &str) {
    let line = text
        .lines()
        .find(|line| line.trim().starts_with("ffrtmp-governor"))
        .unwrap();
    let main = include_str!("../../../governor/src/main.rs");
    let flags: Vec<&str> = line.split(' ').filter(|word| word.starts_with("--")).collect();
    assert!(!flags.is_empty());
    for flag in flags {
        let field = format!("    {}: ", flag.trim_start_matches("--").replace('-', "_"));
        assert!(main.contains(&field), "{flag} is no flag of ffrtmp-governor");
    }
}

#[test]
fn a_recommendation_is_written_in_every_form() {
    let world = World::bare();
    let json = world
        .run(&["config", "recommend", "-e", "production", "-o", "json"])
        .ends(0)
        .json();
    let jobs = json["recommendations"]["max_concurrent_jobs"].as_u64().unwrap();
    assert!(jobs >= 1 && json["hardware"]["cpu_threads"].as_u64().unwrap() >= 1);
    let bash = world
        .run(&["config", "recommend", "-e", "production", "--output", "bash"])
        .ends(0)
        .out;
    assert!(
        bash.contains(&format!("export MAX_CONCURRENT_JOBS={jobs}\n")),
        "{bash}"
    );
    let yaml = world
        .run(&["config", "recommend", "-e", "production", "--output", "yaml"])
        .ends(0)
        .out;
    assert!(yaml.contains(&format!("max_concurrent_jobs: {jobs}\n")), "{yaml}");
    world
        .run(&["config", "recommend", "-o", "csv"])
        .ends(2)
        .says(&["text, json, yaml or bash"]);
    world
        .run(&["config", "recommend", "-e", "moon"])
        .ends(2)
        .says(&["development"]);
}

#[test]
fn files_of_every_program_are_checked_by_it() {
    let world = World::bare();
    let good = world.file("governor.yaml", "rules: []\n");
    world.run(&["config", "check", &good]).ends(0);
    let bad = world.file("watch-config.yaml", "scan_interval: 10s\nbogus: 1\n");
    world
        .run(&["config", "check", &bad])
        .ends(2)
        .says(&["bogus", "2"]);
    let good = world.file("scheduler.yaml", "listen: 127.0.0.1:9\n");
    let shown = world.run(&["config", "check", &good]).ends(0).out;
    assert!(shown.contains("127.0.0.1:9"), "{shown}");
    let bad = world.file("scheduler.yaml", "lisen: 127.0.0.1:9\n");
    world
        .run(&["config", "check", &bad])
        .ends(2)
        .says(&["lisen", "listen"]);
    let bad = world.file("contexts.yaml", "current: gone\n");
    world.run(&["config", "check", &bad]).ends(2).says(&["gone"]);
}
