//! The smallest server that a webhook can talk to, and the smallest client that can read metrics.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ffrtmp_governor::control::types::JobEvent;

use crate::{World, eventually};

/// A server on a port of its own; it lives as long as the test.
#[derive(Debug, Clone)]
pub struct Hook {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<JobEvent>>>,
}

impl Hook {
    /// Answers with these status codes first, then with 200, and keeps what it answered 200 to.
    pub fn answering(first: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let hook = Self {
            address,
            seen: Arc::default(),
        };
        let (seen, mut first) = (Arc::clone(&hook.seen), VecDeque::from(first.to_vec()));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let code = first.pop_front().unwrap_or(200);
                let event = answer(stream.expect("a connection"), code);
                if code == 200 {
                    seen.lock().expect("the list").push(event);
                }
            }
        });
        hook
    }

    /// Lines of a configuration that send these kinds of events here.
    pub fn config(&self, events: &str) -> String {
        format!(
            "webhook:\n  url: http://{}/hook\n  events: [{events}]\n",
            self.address
        )
    }

    /// What it took so far.
    pub fn seen(&self) -> Vec<JobEvent> {
        self.seen.lock().expect("the list").clone()
    }
}

/// One request a connection.
fn answer(stream: TcpStream, code: u16) -> JobEvent {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let text = format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(text.as_bytes()).expect("an answer");
    serde_json::from_slice(&body).expect("an event")
}

impl World {
    /// What its governor answers on the port of the metrics.
    pub fn http(&self, path: &str) -> String {
        // The daemon logs the port it got; a later start logs another.
        let address = eventually("the metrics address in the log", || {
            let log = self.log();
            let start = log.rfind("metrics on http://")? + "metrics on http://".len();
            Some(log[start..].split('/').next()?.to_owned())
        });
        let mut stream = TcpStream::connect(&address).expect("the port of the metrics");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    /// The value of one series.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.http("/metrics");
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok();
        text.lines().find_map(value)
    }
}
