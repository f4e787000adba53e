//! The governor killed, stopped and replaced under load, again and again: nothing is lost, doubled or harmed.

use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ffrtmp_tests::{Workload, World, machine};
use nix::sys::signal::Signal;

use crate::survival::{all_recorded, check, life, pinned};

/// How often it is ended; `FFRTMP_TEST_ROUNDS=1000` asks for more. A guest crawls and takes a sample.
fn rounds() -> u64 {
    let asked = std::env::var("FFRTMP_TEST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    asked.unwrap_or(if machine::emulated() { 10 } else { 100 })
}

/// Lives that follow each other until they are told to stop.
struct Load {
    next: AtomicUsize,
    harmed: AtomicUsize,
}

impl Load {
    const fn new() -> Self {
        Self {
            next: AtomicUsize::new(0),
            harmed: AtomicUsize::new(0),
        }
    }

    /// Starts one after the other; each is to end with the code that `code_of` gives.
    fn run(&self, stop: &AtomicBool, start: impl Fn(usize) -> Child, code_of: impl Fn(usize) -> i32) {
        while !stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let status = start(number).wait().unwrap();
            if status.code() != Some(code_of(number)) {
                self.harmed.fetch_add(1, Ordering::Relaxed);
            }
            // A load, not a flood: the records are read by a test that is not optimized.
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    fn total(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }
}

/// A real encoder over ten small pictures.
fn encoder(ffmpeg: &Workload, number: usize) -> Child {
    let comment = format!("comment={number}");
    let source = "testsrc=size=64x64:rate=10:duration=1";
    ffmpeg.spawn(&[
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        source,
        "-metadata",
        &comment,
        "-f",
        "null",
        "-",
    ])
}

fn number_of(argv: &[String]) -> Option<usize> {
    argv.iter()
        .find_map(|word| word.strip_prefix("comment=")?.parse().ok())
}

/// What is done to the governor in each round: spread over the time that it takes from its start to idle, without a source
/// of chance that nobody can replay.
fn disturb(world: &mut World, plain: &str, round: u64) {
    std::thread::sleep(Duration::from_millis(round * 37 % 211));
    if round % 5 == 2 {
        world.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(2));
        world.signal(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(round * 29 % 151));
    }
    world.stop(if round % 4 == 3 {
        Signal::SIGTERM
    } else {
        Signal::SIGKILL
    });
    std::thread::sleep(Duration::from_millis(round * 13 % 97));
    // Maps of another size are another generation, as after an upgrade.
    let records = if round % 6 >= 3 { "records: 32768\n" } else { "" };
    std::fs::write(world.path("governor.yaml"), format!("{records}{plain}")).unwrap();
    world.start();
}

#[test]
fn a_governor_killed_stopped_and_upgraded_at_random_under_load_loses_doubles_and_harms_nothing() {
    let mut world = World::with(pinned("limits: {cpu_quota: 150}"));
    let plain = std::fs::read_to_string(world.path("governor.yaml")).unwrap();
    let workload = world.workload.clone();
    let ffmpeg = Workload::ffmpeg(&world.path(""), &world.name);
    let source = "testsrc=size=64x64:rate=5";
    let mut staying = [
        workload.spawn(&["sleep-us", "6000000000"]),
        ffmpeg.spawn(&[
            "-v", "error", "-re", "-f", "lavfi", "-i", source, "-f", "null", "-",
        ]),
    ];
    let (synthetic, real, stop) = (Load::new(), Load::new(), AtomicBool::new(false));
    let upgrades = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let start = |number| life(&workload, number);
                synthetic.run(&stop, start, |number| (number % 200) as i32);
            });
        }
        scope.spawn(|| real.run(&stop, |number| encoder(&ffmpeg, number), |_| 0));
        // Ends the load too when a round fails.
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds() {
                disturb(&mut world, &plain, round);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(failed) = rounds {
            std::panic::resume_unwind(failed);
        }
        world.log().matches("took over from the programs").count() as u64
    });
    assert!(upgrades >= rounds() / 3 - 1, "{upgrades} upgrades");
    for (name, load) in [("scripted", &synthetic), ("ffmpeg", &real)] {
        let harmed = load.harmed.load(Ordering::Relaxed);
        assert_eq!(harmed, 0, "{harmed} of {} {name} lives were harmed", load.total());
    }
    check(&world, synthetic.total());
    for (number, view) in all_recorded(&world, real.total(), number_of) {
        assert_eq!(view.report.exit_code, Some(0), "ffmpeg {number}");
    }
    println!(
        "{} rounds, {upgrades} of them upgrades: {} scripted lives and {} of ffmpeg recorded once each",
        rounds(),
        synthetic.total(),
        real.total()
    );
    for child in &mut staying {
        assert!(child.try_wait().unwrap().is_none(), "a workload was harmed");
        assert_eq!(world.job(child.id()).state, "governed");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(world.closed(child.id()).report.signal, Some(9));
    }
}
