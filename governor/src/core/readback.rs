//! Compares what was written into a control group file with what the kernel shows afterwards.
//!
//! The kernel rounds, reorders and adds; this module owns which of those differences mean that the limit holds.

use std::collections::BTreeSet;

/// Largest page size of the architectures we build for; the kernel rounds memory limits down to a page.
const PAGE_MAX: u64 = 64 * 1024;

/// What v1 shows for "no memory limit": the largest page count in bytes (`PAGE_COUNTER_MAX`, 4 KiB pages).
const V1_UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

/// The kernel's text when it means what was asked, else `None`.
///
/// `read` may hold more than one line; the answer is the line that matters.
pub fn holding(file: &str, asked: &str, read: &str) -> Option<String> {
    let shown = read.trim();
    let holds = match file {
        "memory.max" | "memory.limit_in_bytes" => memory_holds(asked, shown),
        "cpuset.cpus" => parse_cpus(asked).is_some_and(|cpus| Some(cpus) == parse_cpus(shown)),
        "io.weight" | "io.bfq.weight" | "blkio.bfq.weight" | "blkio.weight" => {
            // iocost and BFQ list a default first, then disks that differ from it.
            let first = shown.lines().next().unwrap_or_default();
            return (first.trim_start_matches("default ") == asked).then(|| asked.to_owned());
        }
        "io.max" => return line_of_disk(asked, shown).filter(|line| ceilings_hold(asked, line)),
        throttle if throttle.starts_with("blkio.throttle.") => return throttle_line(asked, shown),
        _ => asked.split_whitespace().eq(shown.split_whitespace()),
    };
    holds.then(|| shown.to_owned())
}

fn memory_holds(asked: &str, shown: &str) -> bool {
    let Ok(asked) = asked.parse::<u64>() else {
        return asked == shown;
    };
    match shown.parse::<u64>() {
        Ok(shown) => shown <= asked && (asked - shown < PAGE_MAX || shown >= V1_UNLIMITED),
        Err(_) => shown == "max" && asked >= V1_UNLIMITED,
    }
}

/// The set a list such as `0-1,4` names.
pub fn parse_cpus(list: &str) -> Option<BTreeSet<u32>> {
    /// Far above `NR_CPUS` of any kernel; keeps a typing error from filling memory.
    const CPUS_MAX: u32 = 65_536;
    let mut cpus = BTreeSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn line_of_disk(asked: &str, shown: &str) -> Option<String> {
    let device = asked.split_whitespace().next()?;
    shown
        .lines()
        .find(|line| line.split_whitespace().next() == Some(device))
        .map(str::to_owned)
}

fn ceilings_hold(asked: &str, line: &str) -> bool {
    asked
        .split_whitespace()
        .skip(1)
        .all(|ceiling| line.split_whitespace().any(|word| word == ceiling))
}

/// v1 shows no line for a disk without a ceiling, and is asked for that with 0.
fn throttle_line(asked: &str, shown: &str) -> Option<String> {
    match line_of_disk(asked, shown) {
        Some(line) => line
            .split_whitespace()
            .eq(asked.split_whitespace())
            .then_some(line),
        None => asked.ends_with(" 0").then(|| asked.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_shows_is_judged_by_meaning() {
        for (file, asked, read, holds) in [
            ("cpu.max", "20000 100000", "20000 100000\n", true),
            ("cpu.max", "20000 100000", "max 100000\n", false),
            ("cpu.weight", "200", "200\n", true),
            ("cpu.shares", "2", "1024\n", false),
            ("cpu.cfs_quota_us", "-1", "-1\n", true),
            ("memory.max", "104857700", "104857600\n", true),
            ("memory.max", "104857600", "max\n", false),
            ("memory.max", "104857600", "52428800\n", false),
            ("memory.max", "104857600", "104861696\n", false),
            ("memory.max", "18446744073709551615", "max\n", true),
            (
                "memory.limit_in_bytes",
                "18446744073709551615",
                "9223372036854771712\n",
                true,
            ),
            ("pids.max", "64", "64\n", true),
            ("cpuset.cpus", "0,1,3", "0-1,3\n", true),
            ("cpuset.cpus", "0-1", "0\n", false),
            ("cpuset.cpus", "x", "x\n", false),
            ("io.weight", "4950", "default 4950\n8:0 100\n", true),
            ("io.weight", "4950", "default 100\n", false),
            ("io.bfq.weight", "495", "default 495\n", true),
            ("blkio.bfq.weight", "495", "495\n", true),
            (
                "io.max",
                "8:0 rbps=1 wiops=max",
                "8:0 rbps=1 wbps=max riops=max wiops=max\n",
                true,
            ),
            (
                "io.max",
                "8:0 rbps=1",
                "8:16 rbps=1 wbps=max riops=max wiops=max\n",
                false,
            ),
            ("io.max", "8:0 rbps=1", "", false),
            (
                "blkio.throttle.read_bps_device",
                "8:0 1048576",
                "8:0 1048576\n",
                true,
            ),
            (
                "blkio.throttle.read_bps_device",
                "8:0 1048576",
                "8:0 4096\n",
                false,
            ),
            ("blkio.throttle.read_bps_device", "8:0 0", "", true),
            ("blkio.throttle.read_bps_device", "8:0 0", "8:0 5\n", false),
        ] {
            assert_eq!(
                holding(file, asked, read).is_some(),
                holds,
                "{file}: asked {asked:?}, read {read:?}"
            );
        }
    }

    #[test]
    fn a_cpu_list_that_makes_no_sense_is_none() {
        for bad in ["a", "1-", "3-1", "0-99999999", "-1"] {
            assert_eq!(parse_cpus(bad), None, "{bad:?}");
        }
        assert_eq!(parse_cpus("0-2,5"), Some([0, 1, 2, 5].into()));
        assert_eq!(parse_cpus(""), Some(BTreeSet::new()));
    }

    proptest::proptest! {
        #[test]
        fn page_rounding_never_hides_a_raised_limit(asked in 0u64..1 << 50, shown in 0u64..1 << 50) {
            let held = holding("memory.max", &asked.to_string(), &shown.to_string()).is_some();
            proptest::prop_assert_eq!(held, shown <= asked && asked - shown < PAGE_MAX);
        }

        #[test]
        fn no_text_of_the_kernel_breaks_the_comparison(file in "[a-z.]{0,20}", asked in ".{0,40}", read in ".{0,80}") {
            holding(&file, &asked, &read);
        }
    }
}
