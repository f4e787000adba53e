//! Signals and terminals: what reaches the wrapper, and what the workload.

use std::io::Read;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{FFRTMP, Workload, ffrtmp};

#[test]
fn a_signal_to_the_wrapper_ends_the_wrapper_and_never_the_workload() {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGKILL,
    ] {
        let workload = Workload::new();
        let mut wrapper = ffrtmp(&["run", "--", "sh", "-c", &workload.script()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = workload.pid();
        // The line is written after the exec; the signal must find the wrapper listening.
        kill(Pid::from_raw(wrapper.id() as i32), signal).unwrap();
        let status = wrapper.wait().unwrap();
        assert!(
            kill(Pid::from_raw(pid), None).is_ok(),
            "{signal} ended the workload"
        );
        if signal != Signal::SIGKILL {
            assert_eq!(status.code(), Some(128 + signal as i32), "{signal}");
        }
        // Its output still has a reader here: nothing of it is lost.
        workload.finish();
        let mut text = String::new();
        wrapper.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "done\n", "{signal}");
        assert!(workload.is_done());
        let mut talk = String::new();
        wrapper.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
        if signal != Signal::SIGKILL {
            assert!(
                talk.contains(&format!("[wrapper] Ended by {signal}; process {pid} goes on")),
                "{talk}"
            );
            assert!(talk.contains("ffrtmp ps"), "{talk}");
            assert!(talk.contains("reason=detached_workload_continues"), "{talk}");
        }
    }
}

#[test]
fn a_workload_of_a_killed_json_wrapper_can_still_write() {
    let workload = Workload::new();
    let mut wrapper = ffrtmp(&["run", "--json", "--", "sh", "-c", &workload.script()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    workload.pid();
    wrapper.kill().unwrap();
    wrapper.wait().unwrap();
    workload.finish();
    let mut talk = String::new();
    wrapper.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert!(talk.ends_with("done\n"), "{talk}");
    assert!(workload.is_done());
}

/// Runs a shell line on a terminal of its own, types `typed` into it and returns what the terminal showed.
fn on_a_terminal(line: &str, typed: &str) -> String {
    let mut script = Command::new("script")
        .args(["-qec", line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    std::io::Write::write_all(&mut keyboard, typed.as_bytes()).unwrap();
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    drop(keyboard);
    script.wait().unwrap();
    text
}

#[test]
fn an_interactive_workload_has_the_terminal_and_gives_it_back() {
    let line =
        format!("{FFRTMP} --plain run --interactive -- sh -c 'read x; echo got-$x'; read y; echo shell-$y");
    let text = on_a_terminal(&line, "one\ntwo\n");
    assert!(text.contains("got-one"), "{text}");
    assert!(text.contains("shell-two"), "{text}");
}

#[test]
fn a_workload_started_from_a_terminal_is_not_stopped_when_it_reads() {
    let line = format!("{FFRTMP} --plain run -- sh -c 'read x || echo nothing-to-read'");
    let text = on_a_terminal(&line, "");
    assert!(text.contains("nothing-to-read"), "{text}");
}
