//! Every cause of an exit, told rightly: what the workload did, what the record says.

use std::process::{Child, Command};

use ffrtmp_api::{ExitReason, OomScope, Sender};
use ffrtmp_governor::control::types::JobView;
use ffrtmp_tests::{Options, World, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs a workload to its end and gives its record.
fn ended(world: &World, steps: &[&str]) -> JobView {
    let mut child = world.workload.spawn(steps);
    child.wait().unwrap();
    world.closed(child.id())
}

/// Starts a sleeper, waits until it is judged, lets `kill` end it, gives its record.
fn killed(world: &World, end: impl FnOnce(&Child)) -> JobView {
    let mut child = world.workload.spawn(&["sleep-us", "30000000"]);
    world.job(child.id());
    end(&child);
    child.wait().unwrap();
    world.closed(child.id())
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn this_process() -> (u32, u32) {
    (std::process::id(), nix::unistd::getuid().as_raw())
}

#[test]
fn exit_codes_are_told() {
    let world = World::new();
    let view = ended(&world, &["exit", "0"]);
    assert_eq!(view.report.exit, Some(ExitReason::Success));
    assert_eq!(view.report.exit_code, Some(0));
    for code in [1, 3, 126, 255] {
        let view = ended(&world, &["exit", &code.to_string()]);
        assert_eq!(view.report.exit, Some(ExitReason::Error { code }), "exit {code}");
        assert_eq!(view.report.exit_code, Some(i32::from(code)));
    }
}

#[test]
fn the_sender_of_a_fatal_signal_is_told() {
    let world = World::new();
    let (own_pid, own_uid) = this_process();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP] {
        let view = killed(&world, |child| kill(pid(child), signal).unwrap());
        let Some(ExitReason::Signal {
            signal: told,
            sender: Some(Sender::Process { pid, uid, .. }),
        }) = &view.report.exit
        else {
            panic!("{signal}: {:?}", view.report.exit)
        };
        assert_eq!(i32::from(*told), signal as i32);
        assert_eq!((*pid, *uid), (own_pid, own_uid), "{signal}");
        assert_eq!(view.report.exit_code, Some(128 + signal as i32));
        assert_eq!(view.report.signal, Some(signal as u8));
    }
}

#[test]
fn another_program_that_kills_is_named() {
    let world = World::new();
    let view = killed(&world, |child| {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -KILL {}", child.id()))
            .status()
            .unwrap();
        assert!(status.success());
    });
    let Some(ExitReason::Signal {
        sender: Some(Sender::Process { comm, .. }),
        ..
    }) = &view.report.exit
    else {
        panic!("{:?}", view.report.exit)
    };
    assert_eq!(comm, "sh");
}

#[test]
fn a_process_that_signals_itself_is_its_own_sender() {
    let world = World::new();
    for signal in [Signal::SIGABRT, Signal::SIGUSR1, Signal::SIGPIPE] {
        let view = ended(&world, &["signal", &(signal as i32).to_string()]);
        // Rust programs ignore SIGPIPE from the start, so that one is survived.
        if signal == Signal::SIGPIPE {
            assert_eq!(view.report.exit, Some(ExitReason::Success));
            continue;
        }
        let Some(ExitReason::Signal {
            signal: told,
            sender: Some(Sender::Itself),
        }) = view.report.exit
        else {
            panic!("{signal}: {:?}", view.report.exit)
        };
        assert_eq!(i32::from(told), signal as i32);
    }
}

#[test]
fn a_fault_comes_from_the_kernel() {
    let world = World::new();
    let view = ended(&world, &["fault", "1"]);
    let Some(ExitReason::Signal {
        signal: 11,
        sender: Some(Sender::Kernel),
    }) = view.report.exit
    else {
        panic!("{:?}", view.report.exit)
    };
}

#[test]
fn a_memory_limit_that_kills_is_told_as_oom() {
    let world = World::with(Options {
        rule: "limits: {memory_limit: 32}".to_owned(),
        ..Options::default()
    });
    let mut child = world.spawn_placed(&["alloc-mib", "200"]);
    child.wait().unwrap();
    let view = world.closed(child.id());
    assert_eq!(
        view.report.exit,
        Some(ExitReason::Oom {
            scope: OomScope::Memcg
        }),
        "{view:#?}"
    );
    assert_eq!(view.report.exit_code, Some(137));
}

#[test]
fn a_leader_that_leaves_first_does_not_end_the_process() {
    let world = World::new();
    let view = ended(&world, &["leader-us", "200000"]);
    assert_eq!(view.report.exit, Some(ExitReason::Error { code: 7 }));
    assert!(
        view.report.duration_sec.unwrap() > 0.15,
        "{:?}",
        view.report.duration_sec
    );
}

#[test]
fn a_cpu_time_limit_of_the_shell_is_told_by_its_signal() {
    let world = World::new();
    let script = format!(
        "ulimit -t 1; exec {} burn-ms 20000",
        world.workload.path().display()
    );
    let mut child = Command::new("sh").arg("-c").arg(script).spawn().unwrap();
    child.wait().unwrap();
    let view = world.closed(child.id());
    let Some(ExitReason::Signal { signal, sender }) = &view.report.exit else {
        panic!("{:?}", view.report.exit)
    };
    assert!(
        [Signal::SIGXCPU as u8, Signal::SIGKILL as u8].contains(signal),
        "{signal}"
    );
    assert_eq!(*sender, Some(Sender::Kernel));
}

#[test]
fn a_job_lives_as_long_as_its_last_process() {
    let world = World::new();
    let mut child = world.spawn_placed(&["detach-us", "4000000", "exit", "4"]);
    child.wait().unwrap();
    let early = eventually("the first process's end", || {
        world
            .jobs()
            .into_iter()
            .find(|job| job.report.pid == child.id() && job.report.exit.is_some())
    });
    assert_eq!(early.report.exit, Some(ExitReason::Error { code: 4 }));
    assert_ne!(early.state, "closed", "its child still lives");
    let view = world.closed(child.id());
    assert_eq!(view.report.usage.processes, Some(2));
    assert_eq!(view.report.exit_code, Some(4));
}

#[test]
fn a_second_image_stays_in_the_job() {
    let world = World::new();
    let other = ffrtmp_tests::Workload::new(world.workload.path().parent().unwrap(), "other-image");
    assert!(other.path().exists());
    for step in ["exec", "thread-exec"] {
        let view = ended(&world, &[step, "other-image", "exit", "9"]);
        assert_eq!(view.report.exit, Some(ExitReason::Error { code: 9 }), "{step}");
    }
    let count = world.jobs().len();
    assert_eq!(count, 2, "one job for each start, none for the images inside");
}

#[test]
fn usage_agrees_with_the_kernels_own_sums() {
    let world = World::new();
    let mut child = world.workload.spawn(&[
        "burn-threads",
        "3",
        "write-bytes",
        "20000000",
        "burn-cpu-ms",
        "100",
    ]);
    // wait4 gives the sums the kernel keeps for the parent.
    let (mut status, mut sums) = (0, ffrtmp_tests::zeroed_rusage());
    // SAFETY: both pointers are valid for the call; the child is ours and not waited for elsewhere.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut sums) };
    assert_eq!(waited, child.id().cast_signed());
    let _reaped = child.try_wait();
    let view = world.closed(child.id());
    let usage = view.report.usage;
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let truth = seconds(sums.ru_utime) + seconds(sums.ru_stime);
    let told = usage.cpu_sec.unwrap();
    // The kernel tells of a thread's exit a little before the thread is gone. On an emulated CPU that tail is 2 to 3 ms
    // for each of the four threads.
    let ticks = if ffrtmp_tests::machine::emulated() {
        4.0
    } else {
        1.0
    };
    let tick = 0.01;
    assert!(
        (told - truth).abs() <= (truth * 0.001).max(ticks * tick),
        "told {told}, rusage {truth}"
    );
    assert!(truth > 0.3, "the workload did not burn: {truth}");
    let wrote = usage.write_bytes.unwrap();
    // ru_oublock counts 512-byte blocks of the same counter.
    let blocks = sums.ru_oublock.cast_unsigned() * 512;
    assert!(
        wrote.abs_diff(blocks) <= blocks / 500,
        "told {wrote}, rusage {blocks}"
    );
}
