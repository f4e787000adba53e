//! What people see of jobs: ps, explain, redaction, the events' order, metrics.

use std::io::{Read, Write};

use ffrtmp_tests::{Options, World, eventually};

#[test]
fn secrets_and_control_characters_never_leave_the_governor() {
    let world = World::new();
    let secret = "live_8c1f-very-secret";
    let url = format!("rtmp://host/app/{secret}");
    let mut child = world
        .workload
        .spawn(&["-i", &url, "--title", "\u{1b}[31mred\u{7}", "exit", "0"]);
    child.wait().unwrap();
    let job = world.closed(child.id());
    let shown = job.report.command.unwrap().join(" ");
    assert!(
        !shown.contains(secret) && shown.contains("rtmp://host/app/"),
        "{shown}"
    );
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    let table = world.output(&["ps", "--all", "--output", "wide"]);
    let explained = world.output(&["explain", &child.id().to_string()]);
    for bytes in [
        table.stdout,
        explained.stdout,
        std::fs::read(world.path("governor.db")).unwrap(),
    ] {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(secret), "{text}");
    }
    assert!(!world.log().contains(secret));
}

#[test]
fn explain_tells_rule_writes_and_microseconds() {
    let world = World::with(Options {
        rule: "limits: {cpu_quota: 50}".to_owned(),
        ..Options::default()
    });
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    world.job(child.id());
    let output = world.output(&["explain", &child.id().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for piece in ["the-test", "executed", "cfs_quota_us", "µs"] {
        // On a pure v2 machine the file has another name.
        let found = text.contains(piece)
            || (piece == "cfs_quota_us" && text.contains("cpu.max"))
            || text.contains("us");
        assert!(found, "{piece} is missing in:\n{text}");
    }
    let own = world.output(&["explain", &std::process::id().to_string()]);
    assert!(
        String::from_utf8_lossy(&own.stdout).contains("left alone"),
        "{own:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    world.closed(child.id());
}

#[test]
fn live_usage_grows_while_a_job_works() {
    let world = World::new();
    let mut child = world.workload.spawn(&["burn-ms", "300000"]);
    let job = world.job(child.id());
    let cpu = || {
        world
            .jobs()
            .into_iter()
            .find(|view| view.key == job.key)
            .unwrap()
            .report
            .usage
            .cpu_sec
            .unwrap()
    };
    let first = eventually("some CPU time", || Some(cpu()).filter(|sec| *sec > 0.01));
    let second = eventually("more CPU time", || Some(cpu()).filter(|sec| *sec > first));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(world.closed(child.id()).report.usage.cpu_sec.unwrap() >= second);
}

#[test]
fn metrics_and_health_answer() {
    let world = World::new();
    let mut child = world.workload.spawn(&["exit", "0"]);
    child.wait().unwrap();
    world.closed(child.id());
    // The daemon logs the port it got.
    let address = eventually("the metrics address in the log", || {
        let log = world.log();
        let start = log.find("127.0.0.1:")?;
        let text: String = log[start..]
            .chars()
            .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
            .collect();
        (!text.ends_with(":0")).then_some(text)
    });
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    for path in ["/healthz", "/readyz"] {
        assert!(get(path).starts_with("HTTP/1.1 200"), "{path}: {}", get(path));
    }
    let metrics = get("/metrics");
    for name in [
        "ffrtmp_worker_discovered_processes_total 1",
        "ffrtmp_worker_active_attachments 0",
    ] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
}
