//! What a scenario's name means: `1080p-h264`, `4K60-h265`, `live-4k`, `h264_nvenc_5mbps`.
//!
//! A name is words separated by `-` or `_`; each word must be known, so that a typing error is refused at the door and
//! not on a node. How the words become a command line is the node's business.

use serde::{Deserialize, Serialize};

use crate::FieldError;
use crate::queue::words;

/// A video codec.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// AVC.
    H264,
    /// HEVC.
    H265,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
    /// VP8.
    Vp8,
}

words!(Codec, "codec", { H264 => "h264", H265 => "h265", Vp9 => "vp9", Av1 => "av1", Vp8 => "vp8" });

impl Codec {
    /// The codec of an encoder's or a codec's usual name, for instance `libx264` or `hevc_nvenc`.
    pub fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let first = name.split('_').next().unwrap_or_default();
        Some(match first {
            "h264" | "x264" | "libx264" | "avc" | "openh264" | "libopenh264" => Self::H264,
            "h265" | "hevc" | "x265" | "libx265" => Self::H265,
            "vp9" | "libvpx-vp9" => Self::Vp9,
            "av1" | "libaom-av1" | "libsvtav1" | "librav1e" => Self::Av1,
            "vp8" | "libvpx" => Self::Vp8,
            _ => return None,
        })
    }
}

/// The parts of a scenario's name. What the name does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Scenario {
    /// Lines of the picture.
    pub height: Option<u32>,
    /// Pictures a second.
    pub fps: Option<u32>,
    /// Codec of the output.
    pub codec: Option<Codec>,
    /// Hardware family of the encoder: `nvenc`, `qsv`, `vaapi`, `videotoolbox`, `amf`.
    pub hardware: Option<String>,
    /// Bits a second.
    pub bitrate: Option<u64>,
    /// A stream rather than a file.
    pub live: bool,
    /// A trial or a measurement by its name; never counted towards the SLA.
    pub trial: bool,
}

/// Hardware families of encoders.
pub const HARDWARE: &[&str] = &["nvenc", "qsv", "vaapi", "videotoolbox", "amf"];

/// Words that stand for themselves.
const PLAIN: &[&str] = &[
    "transcode",
    "file",
    "vod",
    "encode",
    "mp4",
    "mkv",
    "hls",
    "dash",
    "low",
    "medium",
    "high",
    "fast",
    "slow",
    "quality",
    "latency",
    "baseline",
    "software",
    "cpu",
    "gpu",
    "default",
    "job",
    "preset",
    "ladder",
];

impl Scenario {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Reads a name. The error names the word that is unknown.
    pub fn parse(name: &str) -> Result<Self, FieldError> {
        let refuse = |text: String| Err(FieldError::new("scenario", text));
        if name.is_empty() {
            return refuse("is missing; write for instance `1080p-h264`".to_owned());
        }
        if name.len() > Self::MAX_LEN {
            return refuse(format!("is longer than {} bytes", Self::MAX_LEN));
        }
        let mut scenario = Self::default();
        for word in name.split(['-', '_']) {
            if !scenario.word(&word.to_ascii_lowercase()) {
                let word: String = word.escape_debug().take(64).collect();
                return refuse(format!(
                    "the word `{word}` is unknown; use sizes (720p, 1080p60, 4K), codecs (h264, h265, vp9, av1), \
                     live, stream, rtmp, transcode, nvenc, 5mbps"
                ));
            }
        }
        Ok(scenario)
    }

    /// Takes one word in; false when it is unknown.
    fn word(&mut self, word: &str) -> bool {
        if let Some((height, fps)) = size(word) {
            self.height = Some(height);
            self.fps = fps.or(self.fps);
        } else if let Some(codec) = Codec::of(word) {
            self.codec = Some(codec);
        } else if HARDWARE.contains(&word) {
            self.hardware = Some(word.to_owned());
        } else if let Some(bitrate) = bitrate(word) {
            self.bitrate = Some(bitrate);
        } else if let Some(fps) = word.strip_suffix("fps").and_then(|fps| fps.parse().ok()) {
            self.fps = Some(fps);
        } else {
            match word {
                "live" | "stream" | "streaming" | "rtmp" | "srt" => self.live = true,
                "test" | "debug" | "benchmark" | "bench" | "demo" => self.trial = true,
                other => return PLAIN.contains(&other) || numbered(other),
            }
        }
        true
    }
}

/// A running number behind a known word, as in `test-1` or `benchmark-03`.
fn numbered(word: &str) -> bool {
    !word.is_empty() && word.len() <= 6 && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `720p`, `1080p60`, `4k`, `4k60`, `uhd`, `hd`, `sd`.
fn size(word: &str) -> Option<(u32, Option<u32>)> {
    let named = [
        ("8k", 4320),
        ("4k", 2160),
        ("2k", 1440),
        ("uhd", 2160),
        ("fhd", 1080),
        ("hd", 720),
        ("sd", 480),
    ];
    let number = |fps: &str| match fps {
        "" => Some(None),
        fps => fps
            .trim_end_matches("fps")
            .parse()
            .ok()
            .filter(|fps| (1..=300).contains(fps))
            .map(Some),
    };
    for (name, height) in named {
        if let Some(fps) = word.strip_prefix(name) {
            return Some((height, number(fps)?));
        }
    }
    let (height, fps) = word.split_once('p')?;
    let height = height
        .parse()
        .ok()
        .filter(|height| (16..=8640).contains(height))?;
    Some((height, number(fps)?))
}

/// Bits a second out of `5M`, `2500k`, `5mbps`, `800kbps` or a plain number of bits. Also the form of
/// `parameters.bitrate`.
pub fn bitrate(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let short = lower
        .strip_suffix("bps")
        .or_else(|| lower.strip_suffix("bit/s"))
        .unwrap_or(&lower);
    let (digits, factor) = match short.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if short.ends_with('k') => (digits, 1e3),
        Some(digits) if short.ends_with('m') => (digits, 1e6),
        Some(digits) => (digits, 1e9),
        // A bare number is a bitrate in `parameters`, never a word of a scenario.
        None if short.len() > 6 => (short, 1.0),
        None => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let bits = digits.parse::<f64>().ok()? * factor;
    (1_000.0..=1e11).contains(&bits).then_some(bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_of_the_readmes_are_known() {
        for (name, height, fps, codec, live) in [
            ("1080p-h264", Some(1080), None, Some(Codec::H264), false),
            ("4K60-h265", Some(2160), Some(60), Some(Codec::H265), false),
            ("4K-h265", Some(2160), None, Some(Codec::H265), false),
            ("1080p60-h264", Some(1080), Some(60), Some(Codec::H264), false),
            ("720p30-vp9", Some(720), Some(30), Some(Codec::Vp9), false),
            ("720p-vp9", Some(720), None, Some(Codec::Vp9), false),
            ("live-4k", Some(2160), None, None, true),
            ("live-stream", None, None, None, true),
            ("live-rtmp", None, None, None, true),
            ("transcode", None, None, None, false),
        ] {
            let scenario = Scenario::parse(name).unwrap();
            assert_eq!(
                (scenario.height, scenario.fps, scenario.codec, scenario.live),
                (height, fps, codec, live),
                "{name}"
            );
        }
        let named = Scenario::parse("h264_nvenc_5mbps").unwrap();
        assert_eq!(named.hardware.as_deref(), Some("nvenc"));
        assert_eq!((named.codec, named.bitrate), (Some(Codec::H264), Some(5_000_000)));
    }

    #[test]
    fn an_unknown_word_is_refused_by_name() {
        for bad in [
            "",
            "1080p-h263x",
            "foo",
            "4Kx-h264",
            "1080p--h264",
            "../etc",
            "1080p h264",
        ] {
            assert_eq!(Scenario::parse(bad).unwrap_err().field, "scenario", "{bad}");
        }
        assert!(
            Scenario::parse("1080p-hh264")
                .unwrap_err()
                .message
                .contains("`hh264`")
        );
        assert!(Scenario::parse(&"a".repeat(129)).is_err());
    }

    #[test]
    fn bitrates_are_read_as_ffmpeg_reads_them() {
        for (text, bits) in [
            ("5M", Some(5_000_000)),
            ("2500k", Some(2_500_000)),
            ("1.5M", Some(1_500_000)),
            ("2500000", Some(2_500_000)),
            ("-5M", None),
            ("fast", None),
            ("", None),
            ("k", None),
            ("1e9M", None),
        ] {
            assert_eq!(bitrate(text), bits, "{text}");
        }
    }
}
