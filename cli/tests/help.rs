//! What the binary says of itself and of wrong command lines, word for word.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their test")]

use std::process::Command;

fn ffrtmp(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ffrtmp"))
        .args(args)
        .env_remove("FFRTMP_SOCKET")
        .env("HOME", "/nonexistent")
        .env("COLUMNS", "110")
        .output()
        .unwrap();
    let text = String::from_utf8(if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    });
    (output.status.code().unwrap(), text.unwrap())
}

#[test]
fn every_verb_explains_itself() {
    for verb in [
        "run",
        "attach",
        "watch",
        "ps",
        "explain",
        "release",
        "rules",
        "doctor",
        "completions",
        "jobs",
        "jobs submit",
        "jobs list",
        "nodes",
        "config",
        "login",
        "keys create",
        "",
    ] {
        let words = verb.split(' ').chain(["--help"]);
        let args: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let (status, text) = ffrtmp(&args);
        assert_eq!(status, 0);
        insta::assert_snapshot!(
            format!(
                "help_{}",
                if verb.is_empty() {
                    "ffrtmp".to_owned()
                } else {
                    verb.replace(' ', "_")
                }
            ),
            text
        );
    }
}

#[test]
fn wrong_command_lines_name_the_flag_and_what_it_takes() {
    let mut text = String::new();
    for line in [
        "run",
        "run true",
        "run --nice 20 -- true",
        "run --nice x -- true",
        "run --cpu-weight 0 -- true",
        "run --cpu-quota -5 -- true",
        "run --memory-limit -1 -- true",
        "run --memory-max -1 -- true",
        "run --cpu-weight -1 -- true",
        "run --cpu-quota 1.5 -- true",
        "run --cpu-quota 999999 -- true",
        "run --cpu-max 5 -- true",
        "run --memory-limit 4G -- true",
        "run --memory-max 4096 -- true",
        "run --io-weight 101 -- true",
        "run --io-max fast -- true",
        "run --oom-score 2000 -- true",
        "run --cpu-set 3-1 -- true",
        "run --pids-max 0 -- true",
        "run --io-priority best -- true",
        "run --timeout 5 -- true",
        "run --intent prod -- true",
        "run --preset fast -- true",
        "run --job-id ../etc -- true",
        "run --job-id a/b -- true",
        "run --workdir /nonexistent -- true",
        "run --unknown -- true",
        "attach",
        "attach --pid 0",
        "attach --pid x",
        "attach --pid -1",
        "attach --pid 2147483647",
        "attach --pid 99999999999",
        "watch --scan-interval 0s",
        "watch --target /usr/bin/ffmpeg",
        "watch --watch-config /nonexistent.yaml",
        "release",
        "release --all x",
        "explain",
        "rules test /nonexistent.yaml",
        "ps --socket /nonexistent.sock",
        "ps --output bash",
        "run --output yaml -- true",
        "jobs",
        "jobs submit",
        "jobs submit --scenario 1080p-h265x --bitrate fast",
        "jobs submit --scenario 720p-h264 --queue urgent",
        "jobs submit --scenario 720p-h264 --cpu-limit -1",
        "jobs submit --scenario 720p-h264 --file a.csv --glob *",
        "jobs submit --file jobs.txt",
        "jobs status x",
        "jobs edit 1",
        "jobs list --status done",
        "jobs list --master x",
        "nodes drain a/b",
        "keys create ci",
        "tokens create --expires 5",
        "config recommend --environment moon",
        "config recommend --output csv",
        "login https://localhost:1 --fingerprint abc",
        "bogus",
    ] {
        let args: Vec<String> = shlex::split(line).unwrap();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (status, said) = ffrtmp(&args);
        text.push_str(&["$ ffrtmp ", line, "\n", said.trim_end(), "\n"].concat());
        text.push_str(&["[", &status.to_string(), "]\n\n"].concat());
    }
    insta::assert_snapshot!("errors", text);
}

#[test]
fn a_completion_script_and_a_manual_page_exist_for_every_verb() {
    let (status, script) = ffrtmp(&["completions", "bash"]);
    assert_eq!(status, 0);
    assert!(
        [
            "--cpu-quota",
            "watch",
            "jobs",
            "--idempotency-key",
            "cordon",
            "--fingerprint"
        ]
        .iter()
        .all(|word| script.contains(word))
    );
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ffrtmp(&["man", "--dir", dir.path().to_str().unwrap()]).0, 0);
    for page in [
        "ffrtmp.1",
        "ffrtmp-run.1",
        "ffrtmp-watch.1",
        "ffrtmp-doctor.1",
        "ffrtmp-jobs-submit.1",
        "ffrtmp-nodes-drain.1",
        "ffrtmp-login.1",
    ] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
}
