//! The form of keys and tokens: a word for the kind, a public id to look it up by, a secret of 256 bits.
//!
//! Only the secret's SHA-256 is ever kept. A plain hash is enough because the secret is random, not chosen by a person.

use std::fmt;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Bytes of a public id: with 80 bits two never meet.
const ID_BYTES: usize = 10;
/// Longest text looked at.
const TEXT_MAX: usize = 512;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user's key.
    Api,
    /// A node's own key.
    Node,
    /// A ticket to join with; it carries the fingerprint of the CA to expect.
    Join,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Api, Self::Node, Self::Join];

    fn word(self) -> &'static str {
        match self {
            Self::Api => "ffk",
            Self::Node => "ffn",
            Self::Join => "ffj",
        }
    }
}

/// SHA-256 of a secret, in lower hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecretHash(String);

impl SecretHash {
    /// Of a text as it was given.
    pub fn of(text: &str) -> Self {
        Self(HEXLOWER.encode(&Sha256::digest(text.as_bytes())))
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, text: &str) -> bool {
        let other = Self::of(text);
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// The system gave no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("draw a random secret")]
pub struct RandomError(#[source] rand::rngs::SysError);

/// A token that was just made: shown once, kept as a hash.
pub struct Minted {
    /// Public id.
    pub id: String,
    /// Hash to keep.
    pub hash: SecretHash,
    /// The whole text to hand out.
    pub text: String,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Makes a token. `tail` is put behind it in the clear.
pub fn mint(kind: Kind, tail: Option<&str>) -> Result<Minted, RandomError> {
    let id = random::<ID_BYTES>()?;
    let secret = random::<SECRET_BYTES>()?;
    let mut text = format!("{}_{id}_{secret}", kind.word());
    if let Some(tail) = tail {
        text = format!("{text}_{tail}");
    }
    Ok(Minted {
        hash: SecretHash::of(&secret),
        id,
        text,
    })
}

/// Random bytes.
pub fn bytes<const BYTES: usize>() -> Result<[u8; BYTES], RandomError> {
    let mut bytes = [0; BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

/// A random name of `BYTES` bytes in lower-case base 32.
pub fn random<const BYTES: usize>() -> Result<String, RandomError> {
    Ok(BASE32_NOPAD.encode(&bytes::<BYTES>()?).to_ascii_lowercase())
}

/// A token taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Public id.
    pub id: &'a str,
    /// Secret.
    pub secret: &'a str,
    /// What stands behind the secret.
    pub tail: Option<&'a str>,
}

/// Takes a token apart; `None` when the text is not one of ours.
pub fn parse(text: &str) -> Option<Parsed<'_>> {
    if text.len() > TEXT_MAX {
        return None;
    }
    let mut parts = text.split('_');
    let word = parts.next()?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
    let parsed = Parsed {
        kind,
        id: parts.next().filter(|id| !id.is_empty())?,
        secret: parts.next().filter(|secret| !secret.is_empty())?,
        tail: parts.next(),
    };
    parts.next().is_none().then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_parses_and_only_its_secret_matches() {
        for (kind, tail) in [(Kind::Api, None), (Kind::Join, Some("00ff"))] {
            let minted = mint(kind, tail).unwrap();
            let parsed = parse(&minted.text).unwrap();
            assert!(parsed.kind == kind && parsed.id == minted.id && parsed.tail == tail);
            assert!(minted.hash.matches(parsed.secret));
            assert!(!minted.hash.matches(parsed.id));
            assert!(!format!("{minted:?}").contains(parsed.secret));
        }
    }

    #[test]
    fn other_texts_are_no_tokens() {
        for text in [
            "",
            "ffk",
            "ffk_",
            "ffk__x",
            "ffk_a_",
            "xxx_a_b",
            "ffk_a_b_c_d",
            &"a".repeat(600),
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_upsets_the_parser(text in ".{0,600}") {
            if let Some(parsed) = parse(&text) {
                proptest::prop_assert!(!parsed.secret.is_empty());
            }
        }
    }
}
