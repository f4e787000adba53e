//! Secrets inside URLs: passwords, stream keys, signed queries. Works on text, because what ffmpeg takes for a URL is
//! often none by the standard (blanks, unencoded passwords, several joined by `|`), and the rest must stay as it was.

use regex::Captures;

use super::MASK;
use super::name::is_secret_query;

/// Masks what is secret in one match of the URL pattern: group 1 is the scheme, group 2 everything after `://`.
pub(super) fn mask(found: &Captures<'_>) -> String {
    let scheme = &found[1];
    let rest = &found[2];
    let (user, rest) = split_user(rest);
    let path_at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, tail) = rest.split_at(path_at);
    let query_at = tail.find('?').unwrap_or(tail.len());
    let (path, query) = tail.split_at(query_at);
    let rtmp = scheme.to_ascii_lowercase().starts_with("rtmp");
    let path = if rtmp {
        mask_stream_key(path)
    } else {
        path.to_owned()
    };
    format!(
        "{scheme}://{}{host}{path}{}",
        mask_user(scheme, user),
        mask_query(query, rtmp)
    )
}

/// The part before the `@` of the authority, with it. A password may hold `@`, and carelessly written ones `/`, `?` or
/// `#`: when what follows the first colon is no port, the password goes to the last `@` of the whole text.
fn split_user(rest: &str) -> (&str, &str) {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return rest.split_at(at + 1);
    }
    let port_like = match authority.rsplit_once(':') {
        _ if authority.starts_with('[') => true,
        Some((_, port)) => port.bytes().all(|b| b.is_ascii_digit()),
        None => true,
    };
    match rest.rfind('@') {
        Some(at) if !port_like => rest.split_at(at + 1),
        _ => ("", rest),
    }
}

/// `user:password@` keeps the user; a lone user of an HTTP URL is a token and goes.
fn mask_user(scheme: &str, user: &str) -> String {
    let Some(user) = user.strip_suffix('@') else {
        return String::new();
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:{MASK}@"),
        None if scheme.to_ascii_lowercase().starts_with("http") => format!("{MASK}@"),
        None => format!("{user}@"),
    }
}

/// Of an RTMP path only the application, its first segment, may stay.
fn mask_stream_key(path: &str) -> String {
    let Some((app, key)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return path.to_owned();
    };
    if key.is_empty() {
        return path.to_owned();
    }
    format!("/{app}/{MASK}")
}

/// Masks secret values; of RTMP every value, because servers take their keys there under any name.
fn mask_query(query: &str, every: bool) -> String {
    let Some(body) = query.strip_prefix('?') else {
        return query.to_owned();
    };
    let pairs: Vec<String> = body.split('&').map(|part| mask_part(part, every)).collect();
    format!("?{}", pairs.join("&"))
}

/// One part between `&`. Old-style `;` separates as well, but only where a name follows: else it belongs to the value.
fn mask_part(part: &str, every: bool) -> String {
    let mut clean: Vec<String> = Vec::new();
    let mut masked = false;
    for piece in part.split(';') {
        match piece.split_once('=') {
            Some((name, value)) => {
                masked = !value.is_empty() && (every || is_secret_query(name));
                clean.push(if masked {
                    format!("{name}={MASK}")
                } else {
                    piece.to_owned()
                });
            }
            None if masked => {}
            None if every && !piece.is_empty() => clean.push(MASK.to_owned()),
            None => clean.push(piece.to_owned()),
        }
    }
    clean.join(";")
}

/// An argument that starts as a URL is one up to its first blank; `|` ends it (ffmpeg's tee and concat).
pub(super) const LEADING: &str = r"(?i)^([a-z][a-z0-9+.-]*)://([^\s|]+)";
/// A URL anywhere in a text; quotes and angle brackets end it as well.
pub(super) const ANYWHERE: &str = r#"(?i)\b([a-z][a-z0-9+.-]*)://([^\s'"<>|]+)"#;
