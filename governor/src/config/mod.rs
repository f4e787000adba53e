//! The configuration file: read, checked as a whole, and turned into settings and rules, or refused.
//!
//! One file format has two uses: `/etc/ffrtmp/governor.yaml` of the daemon, and the predecessor's `watch-config.yaml`, of
//! which it is a superset. Loading is atomic: a file with any fault yields no configuration at all, only the list of what
//! is wrong, with line, column and key. A fault in the file's structure (unknown key, wrong type, broken YAML) ends the
//! reading at once; all faults in values are told together. Nothing here applies a setting.

mod at;
mod error;
mod filters;
mod gate;
mod limits;
mod lower;
mod policy;
mod raw;
mod webhook;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use at::At;
use error::Problems;
pub use error::{ConfigError, Problem};
pub use raw::{LogFormat, LogLevel};
use raw::{RawConfig, RawRedact};

use crate::core::CoreSettings;
use crate::core::policy::NodePolicy;
use crate::core::redact::Redactor;
use crate::core::rule::RuleSet;
use crate::core::tier::Choice;
use crate::host::gate::GateSettings;
use crate::webhook::WebhookConfig;

/// Where the daemon looks when no file is named.
pub const DEFAULT_PATH: &str = "/etc/ffrtmp/governor.yaml";
/// Largest file read, bytes; thousands of rules fit.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything the file says, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of metrics and health.
    pub listen: SocketAddr,
    /// Path of the control socket.
    pub socket: PathBuf,
    /// Path of the ledger.
    pub ledger: PathBuf,
    /// How long closed jobs are kept.
    pub retention: Duration,
    /// Capacity of the kernel's record map.
    pub records: u32,
    /// Where the kernel's side is kept while no governor runs.
    pub pins: PinPlace,
    /// How often a placement that failed is tried again.
    pub placement_retries: u32,
    /// Groups kept ready for each pair of class and limits that the rules name.
    pub spares: u32,
    /// True to speed up lone placements by a setting of the whole host.
    pub fast_placement: bool,
    /// How the exec gate is set up.
    pub gate: GateSettings,
    /// Where facts about processes come from.
    pub tier: Choice,
    /// How often /proc is read in the scan tier.
    pub scan_interval: Duration,
    /// Group below which jobs get theirs, relative to the hierarchy's root; `None` leaves it to the host.
    pub cgroup_base: Option<PathBuf>,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// Least severity logged.
    pub log_level: LogLevel,
    /// Rules, in order.
    pub rules: RuleSet,
    /// What is kept for the rest of the host, and what is lowered under pressure.
    pub policy: NodePolicy,
    /// Server that is sent events; `None` for none.
    pub webhook: Option<WebhookConfig>,
    /// What hides secrets.
    pub redaction: Redactor,
}

/// Where kernel programs and maps are pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PinPlace {
    /// On the host's bpffs, or on one of our own beside the socket.
    #[default]
    Auto,
    /// Nowhere: they end with the governor.
    Off,
    /// In this directory, on a bpffs mounted there if it is on none.
    At(PathBuf),
}

impl Default for Config {
    /// What an empty file means.
    fn default() -> Self {
        let targets = lower::DEFAULT_TARGETS.map(str::to_owned);
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9091)),
            socket: PathBuf::from("/run/ffrtmp/governor.sock"),
            ledger: PathBuf::from("/var/lib/ffrtmp/governor.db"),
            retention: Duration::from_hours(30 * 24),
            records: 65_536,
            pins: PinPlace::Auto,
            placement_retries: CoreSettings::PLACEMENT_RETRIES,
            spares: crate::host::spares::DEFAULT_EACH,
            fast_placement: false,
            gate: GateSettings::default(),
            tier: Choice::Auto,
            scan_interval: Duration::from_secs(10),
            cgroup_base: None,
            log_format: LogFormat::default(),
            log_level: LogLevel::default(),
            rules: RuleSet::from_targets(&targets, ffrtmp_api::Limits::default()),
            policy: NodePolicy::default(),
            webhook: None,
            redaction: Redactor::default(),
        }
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(std::io::Error::other("the file is larger than 1 MiB"));
        }
        Ok(text)
    };
    let text = read().map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&path.display().to_string(), &text)
}

/// Checks a text; `name` stands for the file in messages.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    let mut raw = structure(name, text)?;
    let mut problems = Problems::default();
    let base = Config::default();
    let policy = policy::RawPolicy::take(&mut raw);
    let mut config = Config {
        policy: NodePolicy::default(),
        listen: listen(raw.listen.as_ref(), &mut problems).unwrap_or(base.listen),
        socket: absolute(raw.socket.as_ref(), "socket", &mut problems).unwrap_or(base.socket),
        ledger: absolute(raw.ledger.as_ref(), "ledger", &mut problems).unwrap_or(base.ledger),
        retention: between(
            raw.retention.as_ref(),
            "retention",
            (HOUR, TEN_YEARS),
            &mut problems,
        )
        .unwrap_or(base.retention),
        records: number(raw.records.as_ref(), "records", (1024, 1_048_576), &mut problems)
            .unwrap_or(base.records),
        pins: pin_place(raw.pins.as_ref(), &mut problems),
        placement_retries: number(
            raw.placement_retries.as_ref(),
            "placement_retries",
            (0, 100),
            &mut problems,
        )
        .unwrap_or(base.placement_retries),
        spares: number(raw.spares.as_ref(), "spares", (0, 64), &mut problems).unwrap_or(base.spares),
        fast_placement: raw.fast_placement.unwrap_or(base.fast_placement),
        gate: gate::lower(raw.gate.take(), &mut problems),
        tier: raw.tier.unwrap_or(base.tier),
        scan_interval: between(
            raw.scan_interval.as_ref(),
            "scan_interval",
            (TENTH, HOUR),
            &mut problems,
        )
        .unwrap_or(base.scan_interval),
        cgroup_base: raw
            .cgroup
            .as_ref()
            .and_then(|raw| cgroup_base(raw.base.as_ref(), &mut problems)),
        log_format: raw.log.as_ref().and_then(|log| log.format).unwrap_or_default(),
        log_level: raw.log.as_ref().and_then(|log| log.level).unwrap_or_default(),
        webhook: raw
            .webhook
            .as_ref()
            .and_then(|at| webhook::lower(at, &mut problems)),
        redaction: redaction(raw.redact.take(), &mut problems),
        rules: lower::rules(raw, &mut problems),
    };
    config.policy = policy.lower(&config.rules, &mut problems);
    problems.into_result(name)?;
    Ok(config)
}

/// The JSON Schema of the file, generated from the types that read it.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RawConfig).to_value()
}

const TENTH: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_hours(1);
/// Ten years of 365.25 days, as `humantime` counts them.
const TEN_YEARS: Duration = Duration::from_hours(87_660);

/// Keys, types and YAML itself. An empty file is an empty configuration.
fn structure(name: &str, text: &str) -> Result<RawConfig, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut path = None;
    let raw = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        serde_path_to_error::deserialize::<_, Option<RawConfig>>(yaml).map_err(|error| {
            path = Some(error.path().clone());
            error.into_inner()
        })
    });
    raw.map(Option::unwrap_or_default)
        .map_err(|error| error::from_yaml(name, path.as_ref(), &error))
}

fn listen(at: Option<&At<String>>, problems: &mut Problems) -> Option<SocketAddr> {
    let at = at?;
    let address = at.value.parse().ok();
    if address.is_none() {
        let text = format!(
            "\"{}\" is no address; write IP:PORT, such as 127.0.0.1:9091 or [::1]:9091",
            at.value
        );
        problems.add(at, "listen", text);
    }
    address
}

fn absolute(at: Option<&At<String>>, key: &str, problems: &mut Problems) -> Option<PathBuf> {
    let at = at?;
    let path = PathBuf::from(&at.value);
    if path.is_absolute() && path.file_name().is_some() {
        return Some(path);
    }
    problems.add(
        at,
        key,
        format!("\"{}\" is no file's absolute path; start it with /", at.value),
    );
    None
}

fn pin_place(at: Option<&At<String>>, problems: &mut Problems) -> PinPlace {
    match at.map(|at| at.value.as_str()) {
        None | Some("auto") => PinPlace::Auto,
        Some("off") => PinPlace::Off,
        Some(path) if path.starts_with('/') => {
            absolute(at, "pins", problems).map_or(PinPlace::Auto, PinPlace::At)
        }
        Some(other) => {
            if let Some(at) = at {
                problems.add(
                    at,
                    "pins",
                    format!("\"{other}\" is not possible; write auto, off, or an absolute path"),
                );
            }
            PinPlace::Auto
        }
    }
}

fn cgroup_base(at: Option<&At<String>>, problems: &mut Problems) -> Option<PathBuf> {
    let at = at?;
    let inside = at.value.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if inside.split('/').all(plain) {
        return Some(PathBuf::from(inside));
    }
    let text = format!(
        "\"{}\" is no group; write a path inside the hierarchy, such as ffrtmp.slice",
        at.value
    );
    problems.add(at, "cgroup.base", text);
    None
}

fn number(
    at: Option<&At<i64>>,
    key: &str,
    (least, most): (u32, u32),
    problems: &mut Problems,
) -> Option<u32> {
    let at = at?;
    let number = u32::try_from(at.value)
        .ok()
        .filter(|number| (least..=most).contains(number));
    if number.is_none() {
        problems.add(
            at,
            key,
            format!("{} is not possible; write {least} to {most}", at.value),
        );
    }
    number
}

fn between(
    at: Option<&At<String>>,
    key: &str,
    (least, most): (Duration, Duration),
    problems: &mut Problems,
) -> Option<Duration> {
    let duration = filters::duration(at, key, problems)?;
    if let Some(at) = at.filter(|_| !(least..=most).contains(&duration)) {
        let (least, most) = (
            humantime::format_duration(least),
            humantime::format_duration(most),
        );
        problems.add(
            at,
            key,
            format!("{} is not possible; write {least} to {most}", at.value),
        );
    }
    Some(duration)
}

fn redaction(raw: Option<RawRedact>, problems: &mut Problems) -> Redactor {
    let raw = raw.unwrap_or_default();
    let patterns = raw.patterns.unwrap_or_default();
    let mut own = Vec::new();
    for (index, at) in patterns.iter().enumerate() {
        if let Some(pattern) = filters::pattern(Some(at), &format!("redact.patterns[{index}]"), problems) {
            own.push(pattern.regex().clone());
        }
    }
    Redactor::new(own, raw.defaults.unwrap_or(true))
}

#[cfg(test)]
mod tests;
