//! Other users, for tests of what they may not do.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::World;

/// What a daemon answered: HTTP status and body.
pub type Answer = (u16, serde_json::Value);

/// Runs something on a thread whose user and group are `uid` and that has no other groups; other threads keep theirs.
pub fn as_user<T: Send + 'static>(uid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(move || {
        let id = libc::c_long::from(uid);
        // SAFETY: the raw calls take integers (and no pointer, for a list of no groups) and change this thread alone,
        // which libc's wrappers would not.
        let results = unsafe {
            [
                libc::syscall(libc::SYS_setgroups, 0, 0),
                libc::syscall(libc::SYS_setresgid, id, id, id),
                libc::syscall(libc::SYS_setresuid, id, id, id),
            ]
        };
        assert_eq!(results, [0; 3], "becoming user {uid}");
        work()
    })
    .join()
    .expect("the work as another user")
}

/// Asks a world's daemon over its socket as a user, without the command line tool and its manners.
pub fn ask_as(uid: u32, world: &World, method: &str, route: &str, body: &serde_json::Value) -> Answer {
    let (socket, method, route) = (world.socket(), method.to_owned(), route.to_owned());
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    as_user(uid, move || ask(&socket, &method, &route, &body))
}

fn ask(socket: &Path, method: &str, route: &str, body: &str) -> Answer {
    let mut stream = UnixStream::connect(socket).expect("connect as another user");
    let head = format!(
        "{method} /v1/{route} HTTP/1.1\r\nhost: governor\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("ask");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let (head, content) = text.split_once("\r\n\r\n").expect("a head and a body");
    let content = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        content.lines().nth(1).unwrap_or_default().to_owned()
    } else {
        content.to_owned()
    };
    let value = serde_json::from_str(&content).unwrap_or(serde_json::Value::Null);
    (status.expect("a status"), value)
}
