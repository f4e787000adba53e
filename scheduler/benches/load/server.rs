//! A scheduler for one measurement: started on a database, watched, killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::Peer;

/// The key that may do everything.
pub(crate) const MASTER: &str = "a-master-key-of-the-bench";

/// A scheduler that runs. Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) peer: Peer,
}

/// How figures name the two ways.
pub(crate) fn scheme(tls: bool) -> &'static str {
    if tls { "TLS" } else { "plain" }
}

impl Server {
    /// Starts the program on this database at this port of the loopback (0 is any).
    pub(crate) fn start(program: &Path, database: &Path, tls: bool, port: u16) -> Self {
        let config = database.with_extension("yaml");
        let text = format!(
            "listen: 127.0.0.1:{port}\nmetrics: {{enabled: false}}\ntls: {{enabled: {tls}}}\n\
             access: {{per_address: 0, per_key: 0}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(program)
            .args([
                "--config".as_ref(),
                config.as_os_str(),
                "--db".as_ref(),
                database.as_os_str(),
            ])
            .env("MASTER_API_KEY", MASTER)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("the scheduler ended").unwrap();
            if let Some((_, rest)) = line.split_once("API on ") {
                break rest.split(',').next().unwrap().to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        let ca: PathBuf = database.with_extension("d").join("ca.crt");
        Self {
            peer: Peer::new(&url, &ca),
            child,
            url,
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = after
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        // USER_HZ is 100 on every Linux.
        Duration::from_millis(ticks * 10)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    /// SIGKILL: what a measurement leaves behind must not matter.
    fn drop(&mut self) {
        let _ended = self.child.kill().is_ok();
        let _waited = self.child.wait().is_ok();
    }
}
