//! Fast placement: the hierarchy is there while the governor is, speeds moves up, and goes with it. It acts on the whole
//! machine, on 6.18 until the next boot, so it is seen in guests alone.

use ffrtmp_tests::{Options, World, eventually};
use nix::sys::signal::Signal;

fn mounts() -> std::io::Result<String> {
    std::fs::read_to_string("/proc/self/mountinfo")
}

#[test]
fn lone_moves_are_fast_while_the_governor_runs_and_nothing_stays() {
    super::disposable();
    let before = mounts().unwrap();
    let mut world = World::with(Options {
        config: "fast_placement: true".to_owned(),
        ..Options::default()
    });
    let told = |world: &World| {
        eventually("what came of it", || {
            let output = world.output(&["doctor"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find(|line| line.contains("a lone move takes"));
            line.map(str::to_owned)
        })
    };
    let line = told(&world);
    println!("{line}");
    assert!(line.contains(" ok ") && line.contains("favordynmods"), "{line}");
    assert!(
        mounts().unwrap().contains("favordynmods"),
        "{}",
        mounts().unwrap()
    );
    // A killed governor leaves it; the next one takes it over, and leaves nothing.
    world.stop(Signal::SIGKILL);
    assert_ne!(mounts().unwrap(), before);
    world.start();
    let line = told(&world);
    assert!(line.contains("a hierarchy of our own"), "{line}");
    world.stop(Signal::SIGTERM);
    assert_eq!(mounts().unwrap(), before);
    world.start();
    told(&world);
    world.stop(Signal::SIGKILL);
    let cleaned = String::from_utf8_lossy(&world.cleanup().stdout).into_owned();
    assert!(cleaned.contains("unmounted "), "{cleaned}");
    assert_eq!(mounts().unwrap(), before);
}
