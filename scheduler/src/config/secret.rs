//! A text that must not be shown: no `Debug`, `Display` or log line ever has it.

use std::fmt;
use std::io::Read;
use std::path::Path;

/// Largest file a key is read from, bytes.
const KEY_BYTES_MAX: u64 = 4096;

/// A secret text. Its holder asks for it by [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as it is, without the blanks around it; `None` for an empty one.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Reads a key file; the error is a text for a message.
pub(super) fn read(path: &Path) -> Result<Secret, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Secret::new(&text).ok_or_else(|| format!("{} holds no key; write one line into it", path.display()))
}
