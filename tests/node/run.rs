//! `ffrtmp run`, with a governor and without.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use ffrtmp_api::Report;
use ffrtmp_tests::{World, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr)))
}

/// `run` through the daemon, and without one.
const WAYS: [&[&str]; 2] = [&[], &["--no-daemon"]];

fn run(world: &World, way: &[&str], flags: &[&str], program: &[&str]) -> Output {
    let args: Vec<&str> = [way, &["run"], flags, &["--"], program].concat();
    world.output(&args)
}

#[test]
fn the_exit_code_is_the_workloads() {
    let world = World::new();
    for way in WAYS {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 3", 3),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
        ] {
            let output = run(&world, way, &[], &["sh", "-c", script]);
            assert_eq!(
                output.status.code(),
                Some(code),
                "{script}: {}",
                text(&output.stderr)
            );
        }
        assert_eq!(
            run(&world, way, &[], &["no-such-program-here"]).status.code(),
            Some(127)
        );
        assert_eq!(run(&world, way, &[], &["/etc/passwd"]).status.code(), Some(126));
    }
}

#[test]
fn the_lines_of_the_seeds_are_printed() {
    let world = World::new();
    for way in WAYS {
        let output = run(&world, way, &[], &["/bin/echo", "Hello from wrapper"]);
        let talk = text(&output.stderr);
        for line in [
            "[wrapper] RUN mode: /bin/echo [Hello from wrapper]",
            "[wrapper] Job: unknown, Intent: production, SLA: false",
            "[wrapper] Started PID ",
        ] {
            assert!(talk.contains(line), "{line:?} is missing in:\n{talk}");
        }
        // Seconds to one decimal; how many they are is the machine's affair.
        let exited = "[wrapper] Process exited: code=0, reason=success, duration=";
        let after = talk
            .split_once(exited)
            .map(|(_, after)| after)
            .unwrap_or_default();
        let duration = after.lines().next().and_then(|line| line.strip_suffix('s'));
        let decimals = duration
            .and_then(|seconds| seconds.split_once('.'))
            .map(|(whole, rest)| (whole.parse::<u64>().is_ok(), rest.len()));
        assert_eq!(decimals, Some((true, 1)), "no duration in:\n{talk}");
        assert_eq!(text(&output.stdout), "Hello from wrapper\n");
    }
}

#[test]
fn the_child_is_in_its_group_at_its_first_instruction() {
    let world = World::new();
    for way in WAYS {
        let output = run(
            &world,
            way,
            &["--job-id", "first", "--cpu-quota", "50"],
            &["cat", "/proc/self/cgroup"],
        );
        let groups = text(&output.stdout);
        assert!(
            groups.contains("ffrtmp.slice/"),
            "{groups} {}",
            text(&output.stderr)
        );
        assert!(groups.contains("/first"), "named after the job: {groups}");
    }
}

#[test]
fn json_is_one_report_and_nothing_else() {
    let world = World::new();
    for way in WAYS {
        let flags = [
            "--json",
            "--job-id",
            "j-1",
            "--intent",
            "experiment",
            "--sla-eligible",
            "--memory-limit",
            "512",
        ];
        let output = run(&world, way, &flags, &["sh", "-c", "echo noise; exit 4"]);
        let report = report(&output);
        assert_eq!(
            (report.exit_code, report.exit_reason.as_deref()),
            (Some(4), Some("error"))
        );
        assert_eq!(report.mode, "run");
        assert!(report.sla_eligible);
        assert_eq!(report.intent.as_str(), "experiment");
        assert!(report.usage.cpu_sec.is_some() && report.duration_sec.is_some());
        assert!(text(&output.stderr).contains("noise"));
    }
}

#[test]
fn signals_to_the_wrapper_never_reach_the_workload() {
    let world = World::new();
    for way in WAYS {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGKILL] {
            let mark = world.path("pid");
            let _absent = std::fs::remove_file(&mark);
            let script = format!("echo $$ > {}; exec sleep 30", mark.display());
            let args = [way, &["run", "--", "sh", "-c", &script]].concat();
            let mut wrapper = world.ffrtmp(&args).stderr(Stdio::piped()).spawn().unwrap();
            let pid: i32 = eventually("the workload", || {
                std::fs::read_to_string(&mark).ok()?.trim().parse().ok()
            });
            kill(Pid::from_raw(wrapper.id().cast_signed()), signal).unwrap();
            wrapper.wait().unwrap();
            std::thread::sleep(Duration::from_millis(100));
            kill(Pid::from_raw(pid), None)
                .unwrap_or_else(|_| panic!("{signal} {way:?}: the workload is gone"));
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
    }
}

#[test]
fn a_time_limit_ends_the_job_and_says_so() {
    let world = World::new();
    for way in WAYS {
        let began = Instant::now();
        let output = run(&world, way, &["--timeout", "1s", "--json"], &["sleep", "30"]);
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert_eq!(
            report(&output).exit_reason.as_deref(),
            Some("timeout"),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(143));
    }
}

#[test]
fn run_inside_run_works() {
    let world = World::new();
    let ffrtmp = ffrtmp_tests::bin("ffrtmp");
    let ffrtmp = ffrtmp.to_string_lossy();
    for way in WAYS {
        let inner = [
            &[&*ffrtmp],
            way,
            &["run", "--job-id", "inner", "--", "sh", "-c", "exit 6"],
        ]
        .concat();
        let output = run(&world, way, &["--job-id", "outer"], &inner);
        assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    }
}

#[test]
fn the_workload_reads_nothing_from_our_terminal() {
    let world = World::new();
    let steps = ["read-stdin", "1", "exit", "0"];
    let target = world.workload.path().to_string_lossy().into_owned();
    for way in WAYS {
        let program: Vec<&str> = std::iter::once(target.as_str()).chain(steps).collect();
        let args = [way, &["run", "--"], &program].concat();
        // An open pipe nobody writes to: a workload that read it would never end.
        let mut child = world
            .ffrtmp(&args)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = eventually("the workload to end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn real_ffmpeg_runs_under_its_limits() {
    let world = World::new();
    let output = world.path("clip.mp4");
    let clip = output.to_string_lossy().into_owned();
    let ffmpeg = [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=25:duration=2",
    ];
    let program: Vec<&str> = ffmpeg
        .iter()
        .copied()
        .chain(["-c:v", "mpeg4", "-y", &clip])
        .collect();
    for way in WAYS {
        let flags = [
            "--json",
            "--cpu-quota",
            "150",
            "--memory-limit",
            "512",
            "--nice",
            "3",
            "--cpu-weight",
            "150",
        ];
        let done = run(&world, way, &flags, &program);
        let report = report(&done);
        assert_eq!(
            report.exit_reason.as_deref(),
            Some("success"),
            "{}",
            text(&done.stderr)
        );
        assert!(report.usage.cpu_sec.unwrap() > 0.0);
        let peak = report.usage.memory_peak_bytes.unwrap();
        assert!((1 << 20..512 << 20).contains(&peak), "peak {peak}");
        for limit in ["cpu_max", "memory_max", "nice", "cpu_weight"] {
            assert!(
                report.limits.applied.iter().any(|done| done.limit == limit),
                "{limit}: {:?}",
                report.limits
            );
        }
        assert!(output.exists());
    }
}
