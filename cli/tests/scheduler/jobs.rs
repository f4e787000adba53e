//! One job: submitted, looked at, acted on.

use crate::world::{FakeNode, World};

#[test]
fn a_job_is_submitted_listed_and_shown_as_it_was_meant() {
    let world = World::new();
    let said = world
        .run(&[
            "jobs",
            "submit",
            "--scenario",
            "1080p-h264",
            "--duration",
            "5m",
            "--bitrate",
            "5M",
            "--queue",
            "live",
            "--priority",
            "high",
            "--engine",
            "ffmpeg",
            "--cpu-limit",
            "200",
            "--memory-limit",
            "1024",
            "--timeout",
            "600",
            "--classification",
            "test",
            "--sla-eligible=false",
            "--param",
            "input=/media/a.mp4",
            "--label",
            "rack=7",
            "--tenant",
            "acme",
            "--max-retries",
            "1",
            "--hold",
            "--output",
            "json",
        ])
        .ends(0);
    let job = said.json();
    let shown = world.run(&["jobs", "status", "1", "-o", "json"]).ends(0).json();
    assert_eq!(shown["id"], job["id"]);
    assert_eq!(
        shown["parameters"],
        serde_json::json!({"duration": 300, "bitrate": "5M", "input": "/media/a.mp4"})
    );
    assert_eq!(shown["resource_limits"], job["resource_limits"]);
    assert_eq!(shown["resource_limits"]["max_cpu_percent"], 200);
    for (field, value) in [
        ("queue", "live"),
        ("priority", "high"),
        ("engine", "ffmpeg"),
        ("classification", "test"),
        ("tenant_id", "acme"),
        ("status", "queued"),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(
        (&shown["held"], &shown["sla_eligible"], &shown["max_retries"]),
        (&true.into(), &false.into(), &1.into())
    );
    let table = world.run(&["jobs", "status"]).ends(0);
    assert!(
        table.out.contains("queued (held)") && table.err.contains("Jobs: 1"),
        "{table:?}"
    );
    let wide = world.run(&["jobs", "list", "--output", "wide"]).ends(0).out;
    let csv = world.run(&["jobs", "list", "--output", "csv"]).ends(0).out;
    assert!(
        wide.contains(job["id"].as_str().unwrap()) && csv.starts_with("JOB #,SCENARIO,STATUS"),
        "{wide}{csv}"
    );
    let detail = world
        .run(&["jobs", "status", job["id"].as_str().unwrap(), "-o", "wide"])
        .ends(0)
        .out;
    assert!(
        detail.contains("REASON") && detail.contains("submitted"),
        "{detail}"
    );
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_flag_before_anything_is_sent() {
    let world = World::bare();
    for (line, told) in [
        ("jobs submit", "--scenario"),
        ("jobs submit --scenario 1080x-h264", "--scenario: "),
        ("jobs submit --scenario 720p-h264 --bitrate fast", "--bitrate: "),
        ("jobs submit --scenario 720p-h264 --duration -1", "--duration"),
        ("jobs submit --scenario 720p-h264 --duration 40d", "--duration: "),
        (
            "jobs submit --scenario 720p-h264 --queue urgent",
            "live, default, batch",
        ),
        (
            "jobs submit --scenario 720p-h264 --priority 1",
            "live, high, medium, low, batch",
        ),
        (
            "jobs submit --scenario 720p-h264 --engine vlc",
            "auto, ffmpeg, gstreamer",
        ),
        (
            "jobs submit --scenario 720p-h264 --cpu-limit 999999",
            "--cpu-limit: ",
        ),
        (
            "jobs submit --scenario 720p-h264 --memory-limit -1",
            "--memory-limit",
        ),
        ("jobs submit --scenario 720p-h264 --slots 0", "--slots: "),
        ("jobs submit --scenario 720p-h264 --param x", "KEY=VALUE"),
        ("jobs status 0", "names no job"),
        ("jobs status 018bcfe5", "names no job"),
        ("jobs list --status done", "unknown state"),
        ("jobs list --limit 0", "--limit"),
        ("jobs edit 1", "--priority"),
        ("jobs cancel", "JOB"),
        ("jobs status --follow", "JOB"),
        ("jobs list --output yaml", "config recommend"),
        ("nodes describe a/b", "node id"),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        world.run(&args).ends(2).says(&[told]);
    }
    let said = world
        .run(&[
            "jobs",
            "submit",
            "--scenario",
            "4K60-h265",
            "--dry-run",
            "-o",
            "json",
        ])
        .ends(0);
    assert_eq!(said.json()["scenario"], "4K60-h265");
}

#[test]
fn orders_do_what_they_say_and_refusals_have_their_status() {
    let world = World::new();
    for _ in 0..3 {
        world.submitted();
    }
    let status = |job: &str| world.run(&["jobs", "status", job, "-o", "json"]).ends(0).json();
    world.run(&["jobs", "hold", "1", "2"]).ends(0);
    assert_eq!(status("1")["held"], true);
    let why = world.run(&["jobs", "explain", "1"]).ends(0).out;
    assert!(why.contains("Somebody holds it"), "{why}");
    world.run(&["jobs", "resume", "1"]).ends(0);
    assert_eq!(status("1")["held"], false);
    world.run(&["jobs", "pause", "1"]).ends(0);
    world.run(&["jobs", "resume", "1"]).ends(0);
    world
        .run(&["jobs", "edit", "1", "--priority", "high", "--queue", "live"])
        .ends(0);
    assert_eq!(
        (status("1")["queue"].as_str(), status("1")["priority"].as_str()),
        (Some("live"), Some("high"))
    );
    let said = world.run(&["jobs", "cancel", "1", "-o", "json"]).ends(0).json();
    assert_eq!(
        (said["status"].as_str(), said["state"].as_str()),
        (Some("canceled"), Some("canceled"))
    );
    world.run(&["jobs", "pause", "1"]).ends(8);
    world.run(&["jobs", "retry", "1"]).ends(0);
    assert_eq!(status("1")["status"], "queued");
    world.run(&["jobs", "retry", "1"]).ends(8);
    // One that is not there keeps nothing from the others.
    world
        .run(&["jobs", "cancel", "99", "2", "3"])
        .ends(7)
        .says(&["Job 99: "]);
    let left = world
        .run(&["jobs", "list", "--status", "canceled", "-o", "json"])
        .json();
    assert_eq!(left["count"], 2);
    world.run(&["jobs", "status", "99"]).ends(7);
}

#[test]
fn lists_are_filtered_and_paged() {
    let world = World::new();
    let lines: String = (0..7).map(|_| "{}\n").collect();
    world
        .feed(
            &[
                "jobs",
                "submit",
                "--scenario",
                "720p-h264",
                "--queue",
                "batch",
                "--file",
                "-",
            ],
            &lines,
        )
        .ends(0);
    world.submitted();
    let count = |args: &[&str]| {
        let said = world
            .run(&[&["jobs", "list", "-o", "json"], args].concat())
            .ends(0);
        said.json()["count"].as_u64().unwrap()
    };
    assert_eq!(count(&[]), 8);
    assert_eq!(count(&["--limit", "3"]), 3);
    assert_eq!(
        count(&["--all", "--queue", "batch", "--status", "queued,running"]),
        7
    );
    assert_eq!(count(&["--priority", "high"]), 0);
    assert_eq!(count(&["--created-before", "2020-01-01T00:00:00Z"]), 0);
    world
        .run(&["jobs", "list", "--limit", "3"])
        .ends(0)
        .says(&["there are more (--all)"]);
}

#[test]
fn logs_of_a_failed_job_are_shown_without_their_control_characters() {
    let world = World::new();
    let node = FakeNode::join(&world, "node-a");
    world.submitted();
    let grant = node.claim();
    node.start(&grant, 10.0);
    node.fail(&grant);
    let logs = world.run(&["jobs", "logs", "1"]).ends(0).out;
    assert!(
        logs.contains("moov atom not found") && !logs.contains('\u{1b}') && logs.contains("\\u{1b}"),
        "{logs:?}"
    );
    let shown = world.run(&["jobs", "status", "1"]).ends(0).out;
    assert!(
        shown.contains("input_error") && shown.contains("moov atom"),
        "{shown}"
    );
}
