//! A block device of a test's own: a loop device over a sparse file, undone when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ffrtmp_api::Report;

use crate::eventually;
use crate::world::{World, report_of};

/// A loop device nobody else knows.
#[derive(Debug)]
pub struct LoopDisk {
    _dir: tempfile::TempDir,
    device: PathBuf,
    numbers: String,
    block: PathBuf,
}

impl LoopDisk {
    /// A disk of this size in MiB under this scheduler (`none`, `bfq`, `mq-deadline`).
    pub fn new(mebibytes: u64, scheduler: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ffrtmp-disk-")
            .tempdir()
            .expect("directory");
        let file = dir.path().join("disk");
        std::fs::File::create(&file)
            .and_then(|file| file.set_len(mebibytes << 20))
            .expect("backing file");
        let path = file.to_string_lossy();
        let device = if scheduler == "bfq" {
            // Holes are read at the speed of memory. The disk shall be what is short, so every read goes to a real one.
            let of = format!("of={path}");
            let size = format!("count={mebibytes}");
            run("dd", &["if=/dev/urandom", &of, "bs=1M", &size, "conv=fsync"]);
            run("losetup", &["--find", "--show", "--direct-io=on", &path])
        } else {
            run("losetup", &["--find", "--show", &path])
        };
        let device = PathBuf::from(device);
        let block = Path::new("/sys/block").join(device.file_name().expect("a device"));
        let numbers = std::fs::read_to_string(block.join("dev"))
            .expect("device numbers")
            .trim()
            .to_owned();
        let disk = Self {
            _dir: dir,
            device,
            numbers,
            block,
        };
        let block = &disk.block;
        std::fs::write(block.join("queue/scheduler"), scheduler).expect("disk scheduler");
        if scheduler == "bfq" {
            // By default BFQ raises whoever is new for some seconds, which would hide the weights of a short test.
            std::fs::write(block.join("queue/iosched/low_latency"), "0").expect("low_latency");
            // On a busy machine a reader is often late with its next request; BFQ shall wait for it.
            std::fs::write(block.join("queue/iosched/strict_guarantees"), "1").expect("strict_guarantees");
            std::fs::write(block.join("queue/iosched/slice_idle_us"), "100000").expect("slice_idle_us");
        }
        disk
    }

    /// Its device file.
    pub fn device(&self) -> String {
        self.device.display().to_string()
    }

    /// `MAJOR:MINOR`.
    pub fn numbers(&self) -> &str {
        &self.numbers
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A detached loop device keeps its scheduler, and would count as a disk that is shared by weight.
        let _gone = std::fs::write(self.block.join("queue/scheduler"), "none");
        run("losetup", &["--detach", &self.device()]);
    }
}

/// What two jobs came to that wanted the same disk.
#[derive(Debug)]
pub struct Rivals {
    /// Reports of the jobs at weights 100 and 10.
    pub reports: [Report; 2],
    /// Bytes each of them read while both were at it.
    pub read: [u64; 2],
}

impl Rivals {
    /// How many times as much the heavier one got.
    pub fn ratio(&self) -> f64 {
        self.read[0] as f64 / self.read[1].max(1) as f64
    }

    /// Lets two jobs read the disk at once for some seconds, at weights 100 and 10.
    pub fn on(world: &World, disk: &LoopDisk) -> Self {
        let script = format!(
            "for i in 1 2 3 4; do while :; do dd if={} of=/dev/null bs=1M iflag=direct 2>/dev/null; done & done; wait",
            disk.device()
        );
        let runs = [("heavy", "100"), ("light", "10")].map(|(name, weight)| {
            let flags = [
                "run",
                "--json",
                "--timeout",
                "15s",
                // The disk shall be what is short, not the CPU: others may be busy here.
                "--nice",
                "-10",
                "--job-id",
                name,
                "--io-weight",
                weight,
            ];
            let args = [&flags[..], &["--", "sh", "-c", &script]].concat();
            let mut command = world.ffrtmp(&args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("a rival")
        });
        let read = || {
            let jobs = world.jobs();
            ["heavy", "light"].map(|name| {
                let job = jobs.iter().find(|job| job.report.job_id.as_str() == name)?;
                job.report.usage.read_bytes.filter(|bytes| *bytes > 0)
            })
        };
        let both = |[heavy, light]: [Option<u64>; 2]| Some([heavy?, light?]);
        eventually("both to read", || both(read()));
        // Whoever came first had the disk for himself until now.
        std::thread::sleep(Duration::from_secs(1));
        let before = both(read()).expect("figures of both");
        std::thread::sleep(Duration::from_secs(4));
        let after = both(read()).expect("figures of both");
        Self {
            reports: runs.map(|run| report_of(&run.wait_with_output().expect("a rival's report"))),
            read: [after[0] - before[0], after[1] - before[1]],
        }
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
