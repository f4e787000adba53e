//! A real nginx with its rtmp module and real publishers: the server of an edge node, in a directory and on a port of
//! its own, with the configuration we ship.
//!
//! The machine's own nginx, its files and its service are never touched.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// The configuration we ship; `exec_push` is in it.
const SHIPPED: &str = include_str!("../../deploy/edge/nginx-rtmp.conf");
/// Where it listens, and its ffmpeg reads and writes.
const SHIPPED_ADDRESS: &str = "127.0.0.1:1935";
/// Where Debian puts the module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// An nginx in the foreground, gone with its value.
#[derive(Debug)]
pub struct Nginx {
    master: Child,
    address: String,
    log: PathBuf,
}

impl Nginx {
    /// Starts it in `dir`, on a free port. `application` is a line more for the application that publishers push to.
    pub fn start(dir: &Path, application: &str) -> Self {
        assert!(
            Path::new(MODULE).exists(),
            "no {MODULE}; `cargo xtask test` installs libnginx-mod-rtmp"
        );
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("its number")
            .port();
        let address = format!("127.0.0.1:{port}");
        let rtmp = SHIPPED.replace(SHIPPED_ADDRESS, &address).replacen(
            "live on;",
            &format!("live on;\n            {application}"),
            1,
        );
        assert!(rtmp.contains("exec_push /usr/bin/ffmpeg "));
        let at = |name: &str| dir.join(name);
        let text = format!(
            "load_module {MODULE};\nuser nobody nogroup;\nworker_processes 1;\ndaemon off;\npid {};\nlock_file {};\n\
             error_log {} info;\nevents {{ worker_connections 256; }}\n{rtmp}",
            at("nginx.pid").display(),
            at("nginx.lock").display(),
            at("nginx.log").display()
        );
        std::fs::write(at("nginx.conf"), text).expect("nginx.conf");
        let master = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(at("nginx.conf"))
            .arg("-e")
            .arg(at("nginx.log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("start nginx");
        let log = at("nginx.log");
        eventually("nginx to listen", || TcpStream::connect(&address).ok());
        Self { master, address, log }
    }

    /// Host and port it listens on.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Pid of its one worker, the parent of every stream.
    pub fn worker(&self) -> u32 {
        let pid = self.master.id();
        // The master listens before it forks.
        eventually("nginx to have a worker", || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        })
    }

    /// A real client that pushes a small picture under this stream key.
    pub fn publisher(&self, key: &str) -> Publisher {
        let child = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-re", "-f", "lavfi"])
            .args([
                "-i",
                "testsrc=size=64x48:rate=10",
                "-c:v",
                "flv",
                "-g",
                "5",
                "-f",
                "flv",
            ])
            .arg(format!("rtmp://{}/live/{key}", self.address))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a publisher");
        Publisher(child)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- log of nginx\n{log}");
        }
        let _gone = kill(Pid::from_raw(self.master.id().cast_signed()), Signal::SIGTERM);
        let _gone = self.master.wait();
    }
}

/// A client, gone with its value.
#[derive(Debug)]
pub struct Publisher(Child);

impl Publisher {
    /// Its pid.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}
