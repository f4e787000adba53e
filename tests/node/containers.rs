//! Containers are known by the paths of their groups and by their pid namespace, and left where they are; other
//! namespaces make no container.
//!
//! They are made by hand as their engines make them: groups of the same names, processes moved before their exec,
//! `unshare` for the namespaces. Everything mounted is mounted in a namespace of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::{Options, World, eventually, unique_name};

/// A container's id as Docker makes them.
const ID: &str = "4f1c0c1f8b0a4d6e9b7a2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071";
const LIMITS: &str = "limits: {cpu_quota: 50, memory_limit: 256, nice: 5}";
const SLEEP: [&str; 2] = ["sleep-us", "30000000"];

/// A group of a foreign engine, made and removed by the test.
struct Foreign {
    top: PathBuf,
    group: PathBuf,
}

impl Foreign {
    /// Makes `path` in the hierarchy mounted at `mount`, below a directory nobody else uses.
    fn new(mount: &Path, path: &str) -> Self {
        let top = mount.join(unique_name("foreign"));
        let group = top.join(path.trim_start_matches('/'));
        fs::create_dir_all(&group).unwrap();
        Self { top, group }
    }

    /// Starts a workload whose shell joins the group before it becomes the workload.
    fn spawn(&self, world: &World) -> Child {
        let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        Command::new("sh")
            .args(["-c", script])
            .arg(&self.group)
            .arg(world.workload.path())
            .args(SLEEP)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let mut dir = self.group.as_path();
        while dir.starts_with(&self.top) {
            let _busy = fs::remove_dir(dir);
            let Some(parent) = dir.parent() else { return };
            dir = parent;
        }
    }
}

/// Where hierarchies are mounted here: the v2 one, and v1's pids where there is one.
fn hierarchies() -> Vec<PathBuf> {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    let v1 = Path::new("/sys/fs/cgroup/pids");
    if hybrid.exists() {
        vec![hybrid.to_owned(), v1.to_owned()]
    } else {
        vec!["/sys/fs/cgroup".into()]
    }
}

fn groups(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

fn nice(pid: u32) -> i32 {
    // SAFETY: reads one integer.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, pid) }
}

/// The workload's job, whatever its pid is: under `unshare` it is a grandchild of the test.
fn only_job(world: &World) -> JobView {
    eventually(&format!("one job; log: {}", world.log()), || {
        world.jobs().into_iter().find(|job| job.state != "placing")
    })
}

fn assert_left_alone(world: &World, job: &JobView, whose: &str) {
    let report = &job.report;
    assert_eq!(job.state, "observed", "{job:#?}");
    assert_eq!(report.placement.mode, "observe");
    assert!(report.limits.applied.is_empty(), "{report:#?}");
    assert_eq!(nice(report.pid), 0);
    assert!(
        !groups(report.pid).contains("ffrtmp.slice"),
        "{}",
        groups(report.pid)
    );
    for limit in ["cpu_max", "memory_max", "nice"] {
        let wanted = format!("{limit} is not enforced: {whose}");
        let warnings = &report.limits.warnings;
        assert!(
            warnings.iter().any(|one| one.starts_with(&wanted)),
            "{warnings:?}"
        );
    }
    let explained = world.output(&["explain", &report.pid.to_string()]);
    let story = String::from_utf8_lossy(&explained.stdout);
    assert!(story.contains(&format!("followed only: {whose}")), "{story}");
}

fn assert_placed(job: &JobView) {
    assert_eq!(job.state, "governed", "{job:#?}");
    assert_eq!(job.report.limits.warnings, Vec::<String>::new());
    assert_eq!(nice(job.report.pid), 5);
    assert!(groups(job.report.pid).contains("ffrtmp.slice"));
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn engines_are_known_by_their_paths_in_every_hierarchy_and_keep_their_processes() {
    let paths = [
        (format!("docker/{ID}"), "docker"),
        (format!("system.slice/docker-{ID}.scope"), "docker"),
        (format!("kubepods/burstable/pod1/{ID}"), "kubepods"),
        ("lxc/web".to_owned(), "lxc"),
        (format!("machine.slice/libpod-{ID}.scope/container"), "podman"),
        ("machine.slice/machine-web.scope/payload".to_owned(), "nspawn"),
    ];
    let world = World::with(Options {
        rule: LIMITS.to_owned(),
        ..Options::default()
    });
    for mount in hierarchies() {
        for (path, engine) in &paths {
            let foreign = Foreign::new(&mount, path);
            let child = foreign.spawn(&world);
            let job = world.job(child.id());
            assert_left_alone(&world, &job, &format!("it belongs to {engine}"));
            assert!(groups(child.id()).contains(path), "{}", groups(child.id()));
            let pid = child.id();
            end(child);
            let closed = world.closed(pid);
            assert_eq!(closed.report.signal, Some(9));
            assert!(foreign.group.exists(), "the engine's group is not ours to remove");
        }
    }
}

#[test]
fn a_rule_may_place_containers_and_a_release_gives_them_back() {
    let world = World::with(Options {
        rule: format!("placement: place\nfilters: {{container: [docker]}}\n{LIMITS}"),
        ..Options::default()
    });
    for mount in hierarchies() {
        let foreign = Foreign::new(&mount, &format!("docker/{ID}"));
        let child = foreign.spawn(&world);
        let own = groups(child.id());
        let job = world.job(child.id());
        assert_placed(&job);
        let released = world.output(&["release", job.report.job_id.as_str()]);
        assert!(released.status.success(), "{released:?}");
        assert!(own.contains(ID) || groups(child.id()).contains(ID));
        assert!(
            !groups(child.id()).contains("ffrtmp.slice"),
            "{}",
            groups(child.id())
        );
        assert_eq!(nice(child.id()), 0);
        end(child);
    }
    // The same rule takes nothing outside of Docker.
    let mut outside = world.workload.spawn(&["sleep-us", "200000"]);
    outside.wait().unwrap();
    assert!(world.jobs().iter().all(|job| job.report.pid != outside.id()));
}

/// Starts the workload below `unshare` with these flags.
fn unshared(world: &World, flags: &[&str]) -> Child {
    Command::new("unshare")
        .args(flags)
        .arg(world.workload.path())
        .args(SLEEP)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_pid_namespace_without_a_telling_path_is_a_container() {
    let world = World::with(Options {
        rule: LIMITS.to_owned(),
        ..Options::default()
    });
    let child = unshared(
        &world,
        &[
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--cgroup",
            "--mount-proc",
        ],
    );
    let job = only_job(&world);
    assert_left_alone(&world, &job, "it runs in a pid namespace of its own");
    end(child);
    let closed = world.closed(job.report.pid);
    assert_eq!(closed.report.signal, Some(9));
}

#[test]
fn somebody_who_names_a_sandboxed_pid_means_it() {
    // No rule knows the workload: only the request does.
    let world = World::with(Options {
        rule: "filters: {allowed_users: [nobody-at-all]}".to_owned(),
        ..Options::default()
    });
    let child = unshared(&world, &["--pid", "--fork", "--kill-child"]);
    let parent = child.id();
    let pid = eventually("the sandboxed process", || {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        let pid: u32 = children.split_whitespace().next()?.parse().ok()?;
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (exe == world.workload.path()).then_some(pid)
    });
    let mut attach = world
        .ffrtmp(&[
            "attach",
            "--pid",
            &pid.to_string(),
            "--job-id",
            "obs",
            "--nice",
            "5",
            "--cpu-quota",
            "50",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_placed(&world.job(pid));
    end(child);
    attach.wait().unwrap();
}

#[test]
fn mount_user_and_cgroup_namespaces_alone_are_governed_as_ever() {
    let world = World::with(Options {
        rule: LIMITS.to_owned(),
        ..Options::default()
    });
    for flags in [
        &["--mount"][..],
        &["--user"],
        &["--cgroup"],
        &["--user", "--mount", "--map-root-user"],
    ] {
        let child = unshared(&world, flags);
        assert_placed(&world.job(child.id()));
        let pid = child.id();
        end(child);
        world.closed(pid);
    }
}

#[test]
fn a_file_rule_goes_by_the_path_as_typed_where_another_file_is_mounted_over_it() {
    let name = unique_name("covered");
    let dir = tempfile::tempdir().unwrap();
    let covered = dir.path().join(&name);
    // On the machine this path is no program at all.
    fs::write(&covered, "not a program\n").unwrap();
    let world = World::with(Options {
        config: format!(
            "  - name: by-path\n    files: [{}]\n    class: covered\n    {LIMITS}\n",
            covered.display()
        ),
        ..Options::default()
    });
    let child = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            r#"mount --bind "$1" "$2" && exec "$2" sleep-us 30000000"#,
            "sh",
        ])
        .arg(world.workload.path())
        .arg(&covered)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let job = world.job(child.id());
    assert_placed(&job);
    assert_eq!(job.report.rule.as_deref(), Some("by-path"));
    assert_eq!(fs::read_to_string(&covered).unwrap(), "not a program\n");
    end(child);
    world.closed(job.report.pid);
}
