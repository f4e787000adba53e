//! Many jobs at once.

use crate::world::World;

#[test]
fn a_batch_of_thousands_is_taken_once_however_often_it_is_sent() {
    let world = World::new();
    let rows: Vec<String> = (0..2500)
        .map(|number| format!("720p-h264,{number},batch\n"))
        .collect();
    let csv = format!("scenario,duration,queue\n{}", rows.concat());
    let file = world.file("jobs.csv", &csv);
    let submit = [
        "jobs",
        "submit",
        "--file",
        &file,
        "--idempotency-key",
        "nightly",
        "-o",
        "json",
    ];
    let first = world.run(&submit).ends(0).json();
    assert_eq!((&first["created"], &first["refused"]), (&2500.into(), &0.into()));
    let again = world.run(&submit).ends(0).json();
    assert_eq!((&again["created"], &again["existing"]), (&0.into(), &2500.into()));
    assert_eq!(
        first["items"][2499]["result"]["id"],
        again["items"][2499]["result"]["id"]
    );
    let queues = world.run(&["queues", "-o", "csv"]).ends(0).out;
    assert!(queues.contains("batch,2500,0,0,2500,0,0"), "{queues}");
    // Another line under an old key is refused by its place; the rest is taken.
    let file = world.file("jobs.csv", &csv.replace("720p-h264,7,batch", "720p-h264,8,batch"));
    let submit = [
        "jobs",
        "submit",
        "--file",
        &file,
        "--idempotency-key",
        "nightly",
        "-o",
        "csv",
    ];
    let changed = world.run(&submit).ends(9).out;
    assert!(changed.contains("jobs.csv line 9,refused"), "{}", &changed[..800]);
}

#[test]
fn a_file_with_a_fault_submits_nothing_and_names_the_line() {
    let world = World::new();
    let file = world.file(
        "jobs.ndjson",
        "{\"scenario\":\"720p-h264\"}\n{\"scenario\":\"720p-h264\",\"queue\":\"urgent\"}\n",
    );
    world.run(&["jobs", "submit", "--file", &file]).ends(2).says(&[
        "nothing was submitted",
        "jobs.ndjson line 2: queue",
        "urgent",
    ]);
    world
        .run(&["jobs", "submit", "--file", "/nonexistent.csv"])
        .ends(1)
        .says(&["/nonexistent.csv"]);
    let count = world.run(&["jobs", "list", "-o", "json"]).json();
    assert_eq!(count["count"], 0);
}

#[test]
fn a_pattern_submits_a_job_for_each_file() {
    let world = World::new();
    for name in ["a.mp4", "b.mp4", "notes.txt"] {
        world.file(name, "");
    }
    let pattern = format!("{}/*.mp4", world.path("").display());
    let args = [
        "jobs",
        "submit",
        "--scenario",
        "720p-h264",
        "--glob",
        &pattern,
        "--param",
        "output=/out/{stem}.mkv",
    ];
    let dry = world.run(&[&args[..], &["--dry-run"]].concat()).ends(0);
    assert!(
        dry.out.contains("/out/a.mkv") && dry.err.contains("2 jobs would be submitted; nothing was sent"),
        "{dry:?}"
    );
    world.run(&args).ends(0).says(&["2 of 2 jobs created"]);
    let shown = world.run(&["jobs", "status", "2", "-o", "json"]).json();
    assert_eq!(shown["parameters"]["output"], "/out/b.mkv");
    world
        .run(&[
            "jobs",
            "submit",
            "--scenario",
            "720p-h264",
            "--glob",
            "/nonexistent/*",
        ])
        .ends(2)
        .says(&["no file matches"]);
}
