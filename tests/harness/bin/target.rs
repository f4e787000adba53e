//! A scripted workload: each argument pair is one step, done in order. Tests copy it under the name a rule knows.
//!
//! Steps: `sleep-us N`, `exit N`, `burn-ms N` (one thread, by the wall), `burn-cpu-ms N` (by its CPU time), `burn-threads N`
//! (that many threads, 200 ms of CPU time each),
//! `write-bytes N` (to a file beside the program, synced), `alloc-mib N` (touched), `fork N` (children that repeat the
//! following steps, waited for), `detach-us N` (a child that lives N µs more than its parent), `signal N` (to itself),
//! `fault N` (writes where nothing is mapped), `leader-us N` (the first thread ends, another goes on for N µs and exits with 7), `exec NAME` (executes the file of
//! that name beside the program with the remaining arguments), `thread-exec NAME` (the same from another thread),
//! `own-group FILE` (writes /proc/self/cgroup there), `closure LINES` (see there), `core 1` (allows a core file), `read-stdin 1`.
#![expect(
    clippy::unwrap_used,
    clippy::exit,
    reason = "a workload that cannot do its step should die loudly"
)]

mod closure;

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    run(&args);
}

fn run(args: &[String]) {
    let [step, value, rest @ ..] = args else { return };
    let number = || value.parse::<u64>().unwrap();
    match step.as_str() {
        "sleep-us" => std::thread::sleep(Duration::from_micros(number())),
        "exit" => std::process::exit(i32::try_from(number()).unwrap()),
        "burn-ms" => burn(Duration::from_millis(number()), wall),
        "burn-cpu-ms" => burn(Duration::from_millis(number()), cpu),
        "burn-threads" => {
            let threads: Vec<_> = (0..number())
                .map(|_| std::thread::spawn(|| burn(Duration::from_millis(200), cpu)))
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        }
        "write-bytes" => write_bytes(usize::try_from(number()).unwrap()),
        "alloc-mib" => alloc(usize::try_from(number()).unwrap()),
        "signal" => {
            nix::sys::signal::raise(
                nix::sys::signal::Signal::try_from(i32::try_from(number()).unwrap()).unwrap(),
            )
            .unwrap();
        }
        "fork" => return fork(number(), rest),
        "detach-us" => detach(number()),
        "leader-us" => leader_leaves(Duration::from_micros(number())),
        "exec" => exec(value, rest),
        "thread-exec" => {
            let (name, rest) = (value.clone(), rest.to_vec());
            std::thread::spawn(move || exec(&name, &rest)).join().unwrap();
        }
        "closure" => closure::run(usize::try_from(number()).unwrap()),
        "own-group" => {
            std::fs::write(value, std::fs::read_to_string("/proc/self/cgroup").unwrap()).unwrap();
        }
        // SAFETY: never; address 8 is not mapped, which is the point.
        "fault" => unsafe { std::ptr::write_volatile(std::ptr::without_provenance_mut::<u32>(8), 1) },
        "core" => nix::sys::resource::setrlimit(
            nix::sys::resource::Resource::RLIMIT_CORE,
            nix::sys::resource::RLIM_INFINITY,
            nix::sys::resource::RLIM_INFINITY,
        )
        .unwrap(),
        "read-stdin" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).unwrap();
        }
        other => {
            // Arguments of a made-up command line (`-i rtmp://…`) do nothing.
            assert!(other.starts_with('-'), "unknown step {other}");
        }
    }
    run(rest);
}

/// Since some moment, by the clock on the wall.
fn wall() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// CPU time of this thread, which a busy machine does not shorten.
fn cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

fn burn(time: Duration, clock: fn() -> Duration) {
    let end = clock() + time;
    let mut x = 1u64;
    while clock() < end {
        for _ in 0..1000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

fn write_bytes(count: usize) {
    let path = std::env::current_exe()
        .unwrap()
        .with_extension(format!("out{}", std::process::id()));
    let mut file = std::fs::File::create(&path).unwrap();
    let block = vec![7u8; 1 << 20];
    let mut left = count;
    while left > 0 {
        let part = left.min(block.len());
        file.write_all(&block[..part]).unwrap();
        left -= part;
    }
    file.sync_all().unwrap();
    std::fs::remove_file(path).unwrap();
}

fn alloc(mib: usize) {
    let mut blocks = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        blocks.push(std::hint::black_box(block));
    }
}

fn fork(children: u64, steps: &[String]) {
    let program = std::env::current_exe().unwrap();
    let name = std::env::args().next().unwrap();
    let children: Vec<_> = (0..children)
        .map(|_| {
            std::process::Command::new(&program)
                .arg0(&name)
                .args(steps)
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        child.wait().unwrap();
    }
}

#[expect(
    clippy::zombie_processes,
    reason = "a child that outlives its parent is the point"
)]
fn detach(us: u64) {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    command
        .args(["sleep-us", &us.to_string()])
        .stdin(std::process::Stdio::null());
    command.spawn().unwrap();
}

fn leader_leaves(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        std::process::exit(7);
    });
    // SAFETY: ends this thread alone; nothing of it is used afterwards.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

fn exec(name: &str, rest: &[String]) {
    let program = std::env::current_exe().unwrap().with_file_name(name);
    let error = std::process::Command::new(program).args(rest).exec();
    std::process::exit(error.raw_os_error().unwrap_or(1));
}
