//! Each example of `deploy/examples` as it is shipped, on a daemon: every rule of every file takes a real ffmpeg or
//! gst-launch-1.0 and does to it what the file says. Only socket, ledger and address of the metrics are the test's own.
//!
//! These files name programs that others on the machine may run too, so each test releases everything before it ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ffrtmp_governor::config;
use ffrtmp_governor::control::types::JobView;
use ffrtmp_governor::core::rule::PlacementMode;
use ffrtmp_tests::{Nginx, Options, World, eventually};

/// Five minutes of a small picture, thrown away.
const ENCODE: &str =
    "ffmpeg -nostdin -loglevel error -re -f lavfi -i testsrc=size=64x48:rate=5 -t 300 -f null -";
const PIPELINE: &str = "gst-launch-1.0 -q videotestsrc is-live=true num-buffers=9000 ! fakesink";

/// A daemon with one shipped file, and what became of its rules.
struct Example {
    world: World,
    config: config::Config,
    seen: BTreeSet<String>,
}

impl Example {
    fn start(text: &str) -> Self {
        let mut world = World::idle(Options::default());
        // A shipped file leaves the pins at the host's place, where a test must not leave any.
        assert!(!text.contains("\npins:"));
        fs::write(world.path("governor.yaml"), format!("{text}\npins: off\n")).unwrap();
        world.start();
        let config = config::parse("example", text).unwrap();
        Self {
            world,
            config,
            seen: BTreeSet::new(),
        }
    }

    /// The job of this process under this rule. Its limits are the file's, and each is in force by the kernel's own word.
    /// Those named in `unless_here` may instead be refused with a reason, for want of hardware.
    fn governed(&mut self, child: &Child, rule: &str, unless_here: &[&str]) -> JobView {
        let job = self.world.job(child.id());
        self.assert_rule(&job, rule);
        let wanted = if job.report.placement.mode == "observe" {
            "observed"
        } else {
            "governed"
        };
        assert_eq!(job.state, wanted, "{job:#?}");
        let limits = &job.report.limits;
        for limit in limits.asked.names() {
            let in_force: Vec<_> = limits.applied.iter().filter(|one| one.limit == limit).collect();
            let refused = limits
                .warnings
                .iter()
                .any(|one| one.starts_with(&format!("{limit} is not enforced: ")));
            assert!(in_force.is_empty() == refused, "{limit}: {limits:#?}");
            assert!(!refused || unless_here.contains(&limit), "{limits:#?}");
            for one in in_force.iter().filter(|one| one.target.starts_with('/')) {
                let now = fs::read_to_string(&one.target).unwrap();
                assert_eq!(
                    now.split_whitespace().collect::<Vec<_>>().join(" "),
                    one.value,
                    "{one:?}"
                );
            }
        }
        job
    }

    fn assert_rule(&mut self, job: &JobView, name: &str) {
        assert_eq!(job.report.rule.as_deref(), Some(name), "{job:#?}");
        let rule = self
            .config
            .rules
            .rules()
            .iter()
            .find(|rule| rule.name == name)
            .unwrap();
        assert_eq!(job.report.class, rule.class);
        assert_eq!(job.report.limits.asked, rule.limits);
        assert_eq!(
            (job.report.intent, job.report.sla_eligible),
            (rule.intent, rule.sla_eligible)
        );
        let mode = match rule.placement {
            Some(PlacementMode::Observe) => "observe",
            Some(PlacementMode::InPlace) => "in-place",
            Some(PlacementMode::Place | PlacementMode::Scope) | None => "place",
        };
        assert_eq!(job.report.placement.mode, mode);
        self.seen.insert(name.to_owned());
    }

    /// Of every rule of the file.
    fn names(&self) -> impl Iterator<Item = String> {
        self.config.rules.rules().iter().map(|rule| rule.name.clone())
    }

    /// Every rule of the file was seen to act; nothing stays under it.
    fn finish(self) {
        let all: BTreeSet<String> = self.names().collect();
        assert_eq!(self.seen, all, "rules that no process of this test met");
        let released = self.world.output(&["release", "--all"]);
        assert!(released.status.success(), "{released:?}");
    }
}

/// A process that dies with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Starts a command line as it stands.
fn plain(line: &str) -> Running {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .env("SDL_VIDEODRIVER", "dummy")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// Starts a command line as this user, in this directory below /srv or /opt. The directory is made in a mount namespace
/// of the process's own, so that the machine keeps its own.
fn elsewhere(uid: u32, dir: &str, line: &str) -> Running {
    let top = Path::new("/").join(dir.split('/').nth(1).unwrap());
    fs::create_dir_all(&top).unwrap();
    let script = r#"mount -t tmpfs tmpfs "$1" && mkdir -p "$2" && cp "$(command -v ffmpeg)" "$2" && cd "$2" || exit 1
        uid=$3; shift 3
        exec setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(top)
        .arg(dir)
        .arg(uid.to_string());
    command
        .args(line.split(' '))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// A server's user that the example names and this machine has.
fn server_user() -> u32 {
    let known = |name| {
        nix::unistd::User::from_name(name)
            .unwrap()
            .map(|user| user.uid.as_raw())
    };
    ["www-data", "media"].into_iter().find_map(known).unwrap()
}

#[test]
fn the_edge_example_does_what_it_says() {
    let mut example = Example::start(include_str!("../../deploy/examples/edge.yaml"));
    assert_eq!(example.config.retention.as_secs(), 14 * 86_400);
    let shown = example.world.output(&["doctor"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for line in [
        "cpu_max of all jobs together",
        "memory_max of all jobs together",
        "streams-first",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let other = plain(&format!(
        "{ENCODE} -metadata url=https://ingest.example.com/push/sitekey/x"
    ));
    let job = example.governed(&other.0, "others", &[]);
    let shown = job.report.command.unwrap().join(" ");
    assert!(shown.contains("example.com/push/***"), "{shown}");
    let pipeline = plain(PIPELINE);
    example.governed(&pipeline.0, "others", &[]);
    for line in [
        "ffprobe -f lavfi -loglevel error -show_frames testsrc=size=64x48",
        &ENCODE
            .replace(" -t 300 -f null -", " -frames:v 1 -f null -")
            .replace("rate=5", "rate=1/20"),
    ] {
        let background = plain(line);
        example.governed(&background.0, "thumbnails", &[]);
    }
    let contained = Running(
        Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child"])
            .args(ENCODE.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let parent = contained.0.id();
    let job = eventually("the contained job", || {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        let pid: u32 = children.split_whitespace().next()?.parse().ok()?;
        example.world.jobs().into_iter().find(|job| job.report.pid == pid)
    });
    example.assert_rule(&job, "containers");
    let nginx = Nginx::start(&example.world.path(""), "");
    let publisher = nginx.publisher("edge-example");
    let worker = nginx.worker();
    let stream = eventually("the stream of nginx", || {
        let jobs = example.world.jobs();
        jobs.into_iter()
            .find(|job| job.report.class == "live" && job.state == "governed" && parent_of(job) == worker)
    });
    example.assert_rule(&stream, "client-streams");
    assert_eq!(stream.report.limits.warnings, Vec::<String>::new());
    drop(publisher);
    example.world.closed(stream.report.pid);
    example.finish();
}

fn parent_of(job: &JobView) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", job.report.pid)).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.map_or(0, |pid| pid.trim().parse().unwrap())
}

#[test]
fn the_studio_example_does_what_it_says() {
    let mut example = Example::start(include_str!("../../deploy/examples/studio.yaml"));
    assert_eq!(example.config.listen.to_string(), "127.0.0.1:9091");
    let preview = plain(&ENCODE.replace("-f null -", "-pix_fmt yuv420p -f sdl2 window"));
    example.governed(&preview.0, "preview", &[]);
    // SAFETY: reads one integer.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, preview.0.id()) };
    assert_eq!(nice, -2);
    let one_cpu: &[&str] = if cpus() < 2 { &["cpu_set"] } else { &[] };
    let unless_here = [&["io_weight"], one_cpu].concat();
    for line in [ENCODE, PIPELINE] {
        let render = elsewhere(2000, "/srv/projects", line);
        example.governed(&render.0, "farm", &unless_here);
    }
    // Ten minutes are not waited for here; that they are being waited for is.
    let export = elsewhere(server_user(), "/srv/elsewhere", ENCODE);
    let pid = export.0.id().to_string();
    let verdict = eventually("a verdict that waits", || {
        let output = example.world.output(&["explain", &pid]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("waits").then_some(text)
    });
    assert!(verdict.contains("judged again at 600000 ms"), "{verdict}");
    example.seen.insert("long-exports".to_owned());
    example.finish();
}

fn cpus() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

#[test]
fn the_research_example_does_what_it_says() {
    let mut example = Example::start(include_str!("../../deploy/examples/research.yaml"));
    let one_cpu: &[&str] = if cpus() < 2 { &["cpu_set"] } else { &[] };
    let measured = elsewhere(0, "/opt/encoders", &format!("/opt/encoders/{ENCODE}"));
    example.governed(&measured.0, "measured", one_cpu);
    let soak = elsewhere(0, "/srv/soak", ENCODE);
    example.governed(&soak.0, "soak", &[]);
    for line in [ENCODE, PIPELINE] {
        let seen = plain(line);
        example.governed(&seen.0, "seen", &[]);
    }
    assert!(holds_records(example.world.governor_pid(), 131_072));
    for line in example.world.log().lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "no JSON: {line}");
    }
    example.finish();
}

/// True when the process has a kernel map of so many entries open.
fn holds_records(pid: u32, entries: u32) -> bool {
    let wanted = format!("max_entries:\t{entries}\n");
    let open = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    open.flatten()
        .any(|one| fs::read_to_string(one.path()).is_ok_and(|text| text.contains(&wanted)))
}

#[test]
fn the_watch_config_example_does_what_it_says() {
    let mut example = Example::start(include_str!("../../deploy/examples/watch-config.yaml"));
    let names: Vec<String> = example.names().collect();
    let of = |command: &str| names.iter().find(|name| name.ends_with(command)).unwrap().clone();
    let encode = elsewhere(server_user(), "/srv/media", ENCODE);
    let job = example.governed(&encode.0, &of("ffmpeg"), &[]);
    assert_eq!(
        job.report.limits.asked.cpu_max,
        ffrtmp_api::CpuMax::from_percent(300)
    );
    // Not of this command: it waits for two seconds, and its quota is lifted.
    let pipeline = elsewhere(2000, "/srv/media", PIPELINE);
    let job = example.governed(&pipeline.0, &of("gst-launch-1.0"), &[]);
    assert_eq!(job.report.limits.asked.cpu_max, None);
    assert_eq!(job.report.limits.asked.memory_max, Some(2048 << 20));
    // Refused: root's, another user's, and one in a directory that is not allowed.
    for (uid, dir, why) in [
        (0, "/srv/media", "refuses user in [root]"),
        (2000, "/srv/media", "wants user in [media, www-data]"),
        (
            server_user(),
            "/srv/elsewhere",
            "wants working directory in [/srv/media, /home]",
        ),
    ] {
        let refused = elsewhere(uid, dir, ENCODE);
        let pid = refused.0.id().to_string();
        let story = eventually("a verdict", || {
            let output = example.world.output(&["explain", &pid]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.contains("refuses")
                .then(|| text.clone())
                .or_else(|| text.contains("wants").then_some(text))
        });
        assert!(story.contains(why), "{story}");
    }
    example.finish();
}
