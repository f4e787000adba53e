//! Every way to execute a held file.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use ffrtmp_tests::{Workload, eventually};

use super::{bound, count, gated, groups, in_time, is_placed, look, reap, text_of};

/// Runs a command that must end well, within a second and a margin for a busy machine.
fn run(command: &mut Command) {
    let start = Instant::now();
    let ended = command.status().unwrap();
    assert!(ended.success(), "{command:?}: {ended}");
    assert!(
        start.elapsed() < bound(),
        "{command:?} took {:?}",
        start.elapsed()
    );
}

#[test]
fn by_a_link_with_another_name() {
    in_time("", |world| {
        let link = world.path("another-name");
        std::os::unix::fs::symlink(world.workload.path(), &link).unwrap();
        let (file, text) = look(world, "groups");
        let child = Command::new(&link)
            .args(["own-group", &text, "sleep-us", "30000000"])
            .spawn()
            .unwrap();
        assert!(is_placed(&text_of(&file)));
        // No rule knows that name, but the file is the rule's.
        let job = world.job(child.id());
        assert_eq!(job.state, "governed", "{job:#?}");
        assert!(is_placed(&groups(child.id())));
        reap(child);
    });
}

#[test]
fn as_the_interpreter_of_a_script() {
    in_time("", |world| {
        let script = world.path("script");
        std::fs::write(
            &script,
            format!("#!{} own-group\n", world.workload.path().display()),
        )
        .unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        // The interpreter is told to write to its last argument, which is the script.
        run(&mut Command::new(&script));
        let text = text_of(&script);
        assert!(is_placed(&text), "{text}");
    });
}

#[test]
fn as_a_script() {
    let world = gated("");
    let file = world.path("groups");
    let script = world.path("script");
    std::fs::write(
        &script,
        format!("#!/bin/sh\ncat /proc/self/cgroup > {}\n", file.display()),
    )
    .unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(&script, world.workload.path()).unwrap();
    eventually("the script to be held", || {
        run(&mut Command::new(world.workload.path()));
        is_placed(&text_of(&file)).then_some(())
    });
}

#[test]
fn by_the_dynamic_linker_it_is_no_exec_of_the_file_and_nothing_hangs() {
    let world = gated("");
    let (file, text) = look(&world, "groups");
    let linker = "/lib64/ld-linux-x86-64.so.2";
    run(Command::new(linker)
        .arg(world.workload.path())
        .args(["own-group", &text]));
    assert!(!is_placed(&text_of(&file)));
    assert_eq!(count(&world, "held"), 0);
}

#[test]
fn from_a_thread() {
    in_time("", |world| {
        let launcher = Workload::new(&world.path(""), "launcher");
        let (file, text) = look(world, "groups");
        run(&mut launcher.command(&["thread-exec", &world.name, "own-group", &text]));
        assert!(is_placed(&text_of(&file)));
    });
}

#[test]
fn by_a_program_that_changes_the_user() {
    in_time("", |world| {
        let launcher = Workload::new(&world.path(""), "launcher");
        // What sudo is to the kernel: a set-uid program that executes another one.
        std::fs::set_permissions(launcher.path(), PermissionsExt::from_mode(0o4755)).unwrap();
        let (file, text) = look(world, "groups");
        run(launcher
            .command(&["exec", &world.name, "own-group", &text])
            .uid(65_534));
        assert!(is_placed(&text_of(&file)));
    });
}

#[test]
fn in_another_mount_namespace() {
    in_time("", |world| {
        let (file, text) = look(world, "groups");
        run(Command::new("unshare")
            .arg("--mount")
            .arg(world.workload.path())
            .args(["own-group", &text]));
        assert!(is_placed(&text_of(&file)));
    });
}

#[test]
fn on_an_overlay_from_its_second_exec_on() {
    in_time("", |world| {
        let ((first, one), (second, two)) = (look(world, "first"), look(world, "second"));
        let dir = world.path("stage");
        std::fs::create_dir(&dir).unwrap();
        let (stage, lower, name) = (dir.display(), world.path(""), &world.name);
        // Another file to the kernel than the one below it: the first exec tells of it, and marks it.
        let script = format!(
            "set -e; mount -t tmpfs none {stage}; mkdir {stage}/lower {stage}/upper {stage}/work {stage}/merged; \
         cp {}/{name} {stage}/lower/; \
         mount -t overlay none -o lowerdir={stage}/lower,upperdir={stage}/upper,workdir={stage}/work {stage}/merged; \
         {stage}/merged/{name} own-group {one} sleep-us 700000; {stage}/merged/{name} own-group {two}",
            lower.display()
        );
        run(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
        assert!(text_of(&first).contains('\n'));
        let text = text_of(&second);
        assert!(is_placed(&text), "{text}; log: {}", world.log());
    });
}

#[test]
fn by_the_governors_own_hand() {
    in_time("", |world| {
        let (file, text) = look(world, "groups");
        let path = world.workload.path().to_str().unwrap().to_owned();
        let start = Instant::now();
        let output = world.output(&["run", "--cpu-quota", "50", "--", &path, "own-group", &text]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(start.elapsed() < bound(), "{:?}", start.elapsed());
        let text = text_of(&file);
        assert!(
            text.contains("/ffrtmp.slice/") && !is_placed(&text),
            "in the job's own group: {text}"
        );
        assert_eq!((count(world, "inside"), count(world, "placed")), (1, 0));
    });
}
