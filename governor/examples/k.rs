//! scratch
#![allow(clippy::all, clippy::pedantic, clippy::print_stdout, clippy::unwrap_used, missing_docs)]
use ffrtmp_governor::host::kernel::*;
fn main() {
    let t = std::time::Instant::now();
    let mut k = match Kernel::load(&KernelOptions::default()) { Ok(k) => k, Err(e) => { 
        let mut s: Option<&dyn std::error::Error> = Some(&e);
        while let Some(x) = s { println!("{x}"); s = x.source(); }
        return } };
    println!("loaded {:?} off {:?}", t.elapsed(), k.off());
    k.set_filter(&["ffmpeg".into(), "true".into()], false).unwrap();
    let t = std::time::Instant::now();
    let n = k.all_tasks().unwrap().len();
    println!("{n} tasks in {:?}", t.elapsed());
    std::process::Command::new("/bin/true").arg("hello").status().unwrap();
    std::process::Command::new("ffmpeg").arg("-version").stdout(std::process::Stdio::null()).status().unwrap();
    let mut v = vec![];
    k.drain(100, &mut v);
    for e in v { println!("{e:?}"); }
    for r in k.all_records() { println!("{r:?}"); }
    println!("{:?}", k.counters());
}
