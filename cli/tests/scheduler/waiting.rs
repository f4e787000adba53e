//! Waiting for jobs, through their ends and the scheduler's.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{FakeNode, Said, World};

fn spawn(world: &World, args: &[&str]) -> Child {
    let mut command = world.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ended(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

/// Waits until the scheduler knows that many jobs.
fn jobs_there(world: &World, jobs: u64) {
    let patience = Instant::now() + Duration::from_mins(1);
    while world.run(&["jobs", "list", "-o", "json"]).json()["count"] != jobs {
        assert!(Instant::now() < patience, "the job was never submitted");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_follow_tells_how_far_it_is_and_ends_as_the_job_does() {
    let world = World::new();
    let node = FakeNode::join(&world, "node-a");
    let follow = spawn(
        &world,
        &[
            "jobs",
            "submit",
            "--scenario",
            "720p-h264",
            "--follow",
            "-o",
            "json",
        ],
    );
    let grant = node.claim();
    node.start(&grant, 42.0);
    // Only a follower that samples sees the progress; its end must not overtake the next sample.
    std::thread::sleep(Duration::from_millis(2500));
    node.complete(&grant);
    let said = ended(follow).ends(0).says(&["Job 1: running on node-a, 40%"]);
    assert_eq!(said.json()["status"], "completed");

    let wait = spawn(&world, &["jobs", "submit", "--scenario", "720p-h264", "--wait"]);
    let grant = node.claim();
    node.start(&grant, 1.0);
    node.fail(&grant);
    ended(wait)
        .ends(10)
        .says(&["Job 2 is failed: moov atom not found"]);
    world.run(&["jobs", "status", "2", "--wait"]).ends(10);
    world
        .run(&["jobs", "watch", "1"])
        .ends(0)
        .says(&["completed already"]);
}

#[test]
fn a_wait_outlives_the_scheduler() {
    let mut world = World::new();
    let wait = spawn(
        &world,
        &[
            "jobs",
            "submit",
            "--scenario",
            "720p-h264",
            "--wait",
            "-o",
            "json",
        ],
    );
    jobs_there(&world, 1);
    std::thread::sleep(Duration::from_millis(500));
    world.kill_server();
    world.start_server();
    world.run(&["jobs", "cancel", "1"]).ends(0);
    assert_eq!(ended(wait).ends(10).json()["status"], "canceled");
}

#[test]
fn a_batch_is_waited_for_whole() {
    let world = World::new();
    let node = FakeNode::join(&world, "node-a");
    let file = world.file("jobs.ndjson", "{}\n{}\n");
    let args = [
        "jobs",
        "submit",
        "--scenario",
        "720p-h264",
        "--file",
        &file,
        "--wait",
        "--idempotency-key",
        "k",
    ];
    let wait = spawn(&world, &args);
    for _ in 0..2 {
        let grant = node.claim();
        node.start(&grant, 5.0);
        node.complete(&grant);
    }
    ended(wait).ends(0).says(&["2 of 2 jobs completed"]);
    // The same again finds them ended.
    world
        .run(&args)
        .ends(0)
        .says(&["2 existed", "2 of 2 jobs completed"]);
}

#[test]
fn a_watch_prints_each_step_and_ctrl_c_ends_it_alone() {
    let world = World::new();
    world.submitted();
    let watch = spawn(&world, &["jobs", "watch", "--after", "0", "-o", "json"]);
    let one = spawn(&world, &["jobs", "watch", "1", "--after", "0"]);
    world.run(&["jobs", "cancel", "1"]).ends(0);
    let said = ended(one).ends(10);
    assert!(
        said.out.contains("#1 - -> queued") && said.out.contains("#1 queued -> canceled"),
        "{said:?}"
    );
    // The end of a job that was retried since is history.
    world.run(&["jobs", "retry", "1"]).ends(0);
    world.run(&["jobs", "cancel", "1"]).ends(0);
    let whole = world.run(&["jobs", "watch", "1", "--after", "0"]).ends(10).out;
    assert_eq!(whole.matches("-> canceled").count(), 2, "{whole}");
    std::thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(watch.id() as i32), Signal::SIGINT).unwrap();
    let said = ended(watch).ends(0);
    let to: Vec<String> = said
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["to"].to_string())
        .collect();
    assert_eq!(to, ["\"queued\"", "\"canceled\"", "\"queued\"", "\"canceled\""]);

    world.submitted();
    let wait = spawn(&world, &["jobs", "status", "2", "--wait"]);
    std::thread::sleep(Duration::from_secs(1));
    kill(Pid::from_raw(wait.id() as i32), Signal::SIGINT).unwrap();
    ended(wait)
        .ends(130)
        .says(&["Job 2 goes on", "jobs status 2 --follow"]);
    assert_eq!(
        world.run(&["jobs", "status", "2", "-o", "json"]).json()["status"],
        "queued"
    );
}
