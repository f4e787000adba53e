//! What requests bring: JSON bodies and query strings, read so that every fault names its field.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use ffrtmp_api::ErrorCode;
use serde::de::DeserializeOwned;

use super::problem::{Answer, Refused};

/// A JSON body. The media type is not insisted on: the predecessor's examples leave it out.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| unread(&error))?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| unread(&error))?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(Self)
    }
}

fn unread(error: &BytesRejection) -> Refused {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Refused::new(
            ErrorCode::TooLarge,
            "the body is larger than this route takes; send fewer jobs at a time",
        );
    }
    Refused::new(
        ErrorCode::Invalid,
        format!("the body was not read: {}", error.body_text()),
    )
}

/// A body is an object.
struct Whole<T>(T);

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Whole<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ffrtmp_api::object(deserializer).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let Whole(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let field = if path == "." { "body".to_owned() } else { path };
        if inner.is_data() {
            return Refused::field(field, inner.to_string());
        }
        // A number where a word is due ends the reading like a fault of the JSON; yet the JSON is whole.
        if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
            return Refused::field(
                field,
                format!("is of another type than this field takes: {inner}"),
            );
        }
        Refused::field("body", syntax(bytes, &inner))
    })?;
    deserializer
        .end()
        .map_err(|error| Refused::field("body", format!("text after the end of the JSON: {error}")))?;
    Ok(value)
}

/// The predecessor's documents show JSON with comments, which is none: that gets advice of its own.
fn syntax(bytes: &[u8], error: &serde_json::Error) -> String {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let before = line.get(..error.column().min(line.len())).unwrap_or_default();
    let comment = [b'/', b'#'].iter().any(|mark| before.ends_with(&[*mark]));
    if comment {
        return format!(
            "is no JSON: a comment at line {} column {}; JSON has none, remove it",
            error.line(),
            error.column()
        );
    }
    if bytes.is_empty() {
        return "is empty; send a JSON object".to_owned();
    }
    format!("is no JSON: {error}")
}

/// The one part of a path that varies.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let found = Path::<String>::from_request_parts(parts, state).await;
        found
            .map(|Path(text)| Self(text))
            .map_err(|error| Refused::field("id", error.body_text()))
    }
}

/// The pairs of a query string. Each route takes out what it knows; [`Query::end`] refuses what is left.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Ok(Self::of(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    /// Of what stands behind the question mark.
    pub(super) fn of(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Self { pairs }
    }

    /// Takes a parameter out, under any of its names. Twice is refused.
    pub(super) fn text(&mut self, names: &[&str]) -> Answer<Option<String>> {
        let mut found = Vec::new();
        self.pairs.retain(|(name, value)| {
            let hit = names.contains(&name.as_str());
            if hit {
                found.push(value.clone());
            }
            !hit
        });
        if found.len() > 1 {
            return Err(Refused::field(
                names.first().copied().unwrap_or_default(),
                "is given twice; give it once",
            ));
        }
        Ok(found.pop())
    }

    /// Takes a parameter out and parses it.
    pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        names: &[&str],
    ) -> Answer<Option<T>> {
        let name = names.first().copied().unwrap_or_default();
        self.text(names)?
            .map(|text| {
                text.parse()
                    .map_err(|error: T::Err| Refused::field(name, error.to_string()))
            })
            .transpose()
    }

    /// Refuses what nobody asked for.
    pub(super) fn end(self, known: &str) -> Answer<()> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.escape_debug().take(64).collect();
                Err(Refused::field(
                    shown,
                    format!("is no parameter of this route; it takes {known}"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Probe {
        #[expect(dead_code, reason = "only parsed")]
        count: u32,
    }

    fn detail(text: &str) -> String {
        parse::<Probe>(text.as_bytes()).unwrap_err().0.detail
    }

    #[test]
    fn faults_of_a_body_name_their_field() {
        assert!(detail(r#"{"count": -1}"#).starts_with("count: "));
        assert!(detail(r#"{"cont": 1}"#).contains("unknown field `cont`"));
        assert!(detail("").contains("is empty"));
        assert!(detail("{").contains("is no JSON"));
        assert!(detail(r#"{"count": 1} x"#).contains("after the end"));
        for comment in [
            "{\n  \"count\": 1, // one\n}",
            "{\n # one\n \"count\": 1}",
            "{ /* x */ }",
        ] {
            assert!(
                detail(comment).contains("remove it"),
                "{comment}: {}",
                detail(comment)
            );
        }
    }
}
