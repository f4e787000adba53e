//! Logging in, contexts, keys, tokens, tenants and backups.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;

use crate::world::{MASTER, World};

#[test]
fn a_login_trusts_the_named_authority_and_no_other() {
    let world = World::bare();
    let (url, right) = (world.url(), world.fingerprint.clone());
    let wrong = "ab".repeat(32);
    world
        .run(&["jobs", "list", "--master", &url, "--api-key", MASTER])
        .ends(5)
        .says(&["the certificate of", "is not trusted", "--fingerprint"]);
    world
        .run(&["login", &url, "--fingerprint", &wrong, "--api-key", MASTER])
        .ends(5)
        .says(&["shows an authority with the fingerprint", &right, &wrong]);
    world
        .run(&["login", &url, "--fingerprint", "abc"])
        .ends(2)
        .says(&["64 hexadecimal digits"]);
    world
        .run(&[
            "login",
            &url,
            "--fingerprint",
            &right,
            "--api-key",
            "not-the-key-of-anybody",
        ])
        .ends(6)
        .says(&["key"]);
    assert!(
        !world.path(".ffrtmp").exists(),
        "a login that failed is not remembered"
    );
    world
        .feed(
            &["login", &url, "--fingerprint", &right, "--api-key-file", "-"],
            &format!("{MASTER}\n"),
        )
        .ends(0);
    let file = world.path(".ffrtmp/config.yaml");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    world.run(&["jobs", "list"]).ends(0);
    world.run(&["config", "check"]).ends(0);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    world.run(&["config", "check"]).ends(2).says(&["chmod 600"]);
    // The authority may come from a file instead.
    let ca = world.path("master.d/ca.crt");
    let ca = ca.to_str().unwrap();
    world
        .run(&[
            "jobs",
            "list",
            "--config",
            "/dev/null",
            "--master",
            &url,
            "--api-key",
            MASTER,
            "--ca",
            ca,
        ])
        .ends(0);
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_context() {
    let world = World::new();
    let other = World::new();
    other.submitted();
    let count = |command: &mut std::process::Command| -> String {
        let said: crate::world::Said = command.output().unwrap().into();
        said.ends(0).json()["count"].to_string()
    };
    let list = ["jobs", "list", "-o", "json"];
    assert_eq!(count(&mut world.command(&list)), "0");
    let ca = other.path("master.d/ca.crt");
    let mut command = world.command(&list);
    command.args(["--ca", ca.to_str().unwrap()]);
    command
        .env("MASTER_URL", other.url())
        .env("MASTER_API_KEY", MASTER);
    assert_eq!(count(&mut command), "1");
    // A context that is named counts as a flag does.
    let mut command = world.command(&list);
    command.args(["--context", "test"]).env("MASTER_URL", other.url());
    assert_eq!(count(&mut command), "0");
    // The key of a context is shown to its own scheduler alone.
    let mut command = world.command(&list);
    command.args(["--ca", ca.to_str().unwrap(), "--master", &other.url()]);
    let said: crate::world::Said = command.output().unwrap().into();
    said.ends(6).says(&["--api-key"]);
    let said: crate::world::Said = command
        .env("FFMPEG_RTMP_API_KEY", MASTER)
        .output()
        .unwrap()
        .into();
    said.ends(0);
    let said: crate::world::Said = command.args(["--api-key", "wrong"]).output().unwrap().into();
    said.ends(6);
}

#[test]
fn contexts_are_listed_chosen_and_forgotten_without_showing_a_key() {
    let world = World::new();
    let said = world.run(&["context", "list", "-o", "json"]).ends(0);
    assert!(!said.out.contains(MASTER));
    assert_eq!(said.json()[0]["ca_fingerprint"], world.fingerprint.as_str());
    let who = world.run(&["whoami", "-o", "json"]).ends(0);
    assert!(!who.out.contains(MASTER));
    assert_eq!(
        (
            who.json()["caller"]["kind"].as_str(),
            who.json()["key_from"].as_str()
        ),
        (Some("master"), Some("context test"))
    );
    world
        .run(&["context", "use", "nope"])
        .ends(2)
        .says(&["known are: test"]);
    let who = world.run(&["whoami", "--api-key", "wrong"]).ends(6);
    assert!(
        who.out.contains("--api-key") && who.out.contains("refused"),
        "{who:?}"
    );
    world.run(&["context", "remove", "test"]).ends(0);
    assert_eq!(
        world
            .run(&["context", "list", "-o", "json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

#[test]
fn a_key_may_do_what_its_scopes_say_until_it_ends() {
    let world = World::new();
    world.run(&["keys", "create", "x"]).ends(2).says(&["--scope"]);
    world
        .run(&["keys", "create", "x", "--scope", "root"])
        .ends(2)
        .says(&["submit, read, operate, admin"]);
    let made = world
        .run(&["keys", "create", "ci", "--scope", "submit,read", "-o", "json"])
        .ends(0)
        .json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let who = world.run(&["whoami", "--api-key", key]).ends(0).out;
    assert!(who.contains("ci") && who.contains("submit, read"), "{who}");
    let submit = ["jobs", "submit", "--scenario", "720p-h264", "--api-key", key];
    world.run(&submit).ends(0);
    world
        .run(&["jobs", "cancel", "1", "--api-key", key])
        .ends(6)
        .says(&["operate", "ffrtmp keys create"]);
    let said = world.run(&["keys", "rotate", id, "--overlap", "1h"]).ends(0);
    let next = said.out.trim();
    world.run(&["jobs", "list", "--api-key", next]).ends(0);
    world.run(&submit).ends(0);
    world.run(&["keys", "revoke", id]).ends(0);
    world.run(&submit).ends(6);
    let list = world.run(&["keys", "list", "-o", "csv"]).ends(0).out;
    assert!(
        list.contains("ci,\"submit,read\"") && !list.contains(next),
        "{list}"
    );
    world.run(&["keys", "revoke", "nope"]).ends(7);
    let brief = ["keys", "create", "brief", "--scope", "read", "--expires", "1s"];
    let key = world.run(&brief).ends(0).out;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world
        .run(&["jobs", "list", "--api-key", key.trim()])
        .ends(6)
        .says(&["expired"]);
}

#[test]
fn tokens_tenants_and_backups_are_made_and_listed() {
    let world = World::new();
    let token = world
        .run(&["tokens", "create", "--uses", "3", "--expires", "2h"])
        .ends(0)
        .out;
    assert!(token.trim().ends_with(&world.fingerprint), "{token}");
    let list = world.run(&["tokens", "list", "-o", "json"]).ends(0).json();
    assert_eq!(list["tokens"][0]["uses_left"], 3);
    let id = list["tokens"][0]["id"].as_str().unwrap();
    world.run(&["tokens", "revoke", id]).ends(0);
    world
        .run(&["tokens", "create", "--expires", "2"])
        .ends(2)
        .says(&["30m, 12h or 90d"]);
    world
        .run(&["tenants", "set", "acme", "--max-running", "2"])
        .ends(0);
    let list = world.run(&["tenants", "list", "-o", "csv"]).ends(0).out;
    assert!(list.contains("acme,0,2"), "{list}");
    world
        .run(&["tenants", "set", "acme"])
        .ends(2)
        .says(&["--max-running"]);
    let path = world.run(&["backup", "--name", "first.db"]).ends(0).out;
    assert!(world.path(path.trim()).exists(), "{path}");
    world
        .run(&["backup", "--name", "first.db"])
        .ends(8)
        .says(&["exists"]);
    world.run(&["backup", "--name", "../x"]).ends(1).says(&["name"]);
}

#[test]
fn a_scheduler_that_is_not_there_is_told_from_one_that_refuses() {
    let mut world = World::new();
    world.kill_server();
    world
        .run(&["jobs", "list"])
        .ends(5)
        .says(&["no answer from https://127.0.0.1", "ffrtmp-scheduler runs there"]);
    world
        .run(&["jobs", "list", "--master", "localhost:1"])
        .ends(2)
        .says(&["--master `localhost:1`", "https://"]);
    world
        .run(&["jobs", "list", "--context", "nope"])
        .ends(2)
        .says(&["known are: test"]);
    world
        .run(&["jobs", "list", "--config", "/nonexistent.yaml"])
        .ends(1)
        .says(&["/nonexistent.yaml"]);
    let file = world.file("bad.yaml", "contexts:\n  a: {ulr: x}\n");
    world
        .run(&["jobs", "list", "--config", &file])
        .ends(2)
        .says(&["bad.yaml", "line 2", "ulr"]);
}

#[test]
fn something_else_on_the_port_is_told_from_a_scheduler() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            assert!(
                head.by_ref().any(|line| line.unwrap().is_empty()),
                "a head ends with an empty line"
            );
            let text = "<html>";
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            )
            .unwrap();
        }
    });
    world.run(&["jobs", "list", "--master", &url]).ends(5).says(&[
        &url,
        "answered 404, and not as a scheduler does",
        "port",
    ]);
    let plain = world.url().replace("https", "http");
    world.run(&["jobs", "list", "--master", &plain]).ends(5);
}

#[test]
fn a_full_disk_refuses_submissions_with_a_status_of_its_own() {
    let world = World::configured("limits: {disk_reserve_bytes: 1000000000000000}\n").logged_in();
    world
        .run(&["jobs", "submit", "--scenario", "720p-h264"])
        .ends(11)
        .says(&["disk"]);
    let file = world.file("jobs.ndjson", "{}\n{}\n");
    world
        .run(&["jobs", "submit", "--scenario", "720p-h264", "--file", &file])
        .ends(11)
        .says(&["2 jobs were not sent", "--idempotency-key"]);
    world.run(&["jobs", "list"]).ends(0);
}
