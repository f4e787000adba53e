//! Which scheduler is meant, and with which key: a flag wins over the environment, which wins over the context.
//!
//! A context's key and authority go to the context's own address only. Where a flag or a variable names another one, the
//! context of that address is used, if there is one.

use reqwest::Url;

use super::args::Remote;
use super::book::{Book, Context};
use super::error::ClientError;

/// Where a scheduler is looked for when nothing says where, as the predecessor did.
const FALLBACK: &str = "https://localhost:8080";
/// Variables that hold a key, the first wins.
const KEYS: [&str; 2] = ["MASTER_API_KEY", "FFMPEG_RTMP_API_KEY"];

/// A scheduler, and who asks.
#[derive(Clone)]
pub struct Target {
    /// Its address, without a path.
    pub url: Url,
    /// Where the address was found.
    pub url_from: String,
    /// Key to show.
    pub key: Option<String>,
    /// Where the key was found.
    pub key_from: Option<String>,
    /// Authority to trust, PEM; the system's when `None`.
    pub ca: Option<String>,
    /// Where that was found.
    pub ca_from: Option<String>,
    /// Name of the context that counted.
    pub context: Option<String>,
}

/// The key is left out: a debug print may end in a log.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.url.as_str())
            .field("keyed", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Puts flags, variables and the file of contexts together. `variable` answers for the environment.
    pub fn resolve(remote: &Remote, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ClientError> {
        let book = Book::read(remote.config.as_deref(), &variable)?;
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let named = book.context(remote.context.as_deref())?;
        let asked = match (&remote.master, &remote.context) {
            (Some(text), _) => Some((text.clone(), "--master".to_owned())),
            // A context that was named by a flag is a flag.
            (None, Some(_)) => None,
            (None, None) => variable("MASTER_URL").map(|text| (text, "MASTER_URL".to_owned())),
        };
        let (url, url_from, context) = match (asked, named) {
            (Some((text, origin)), named) => {
                let url = address(&origin, &text)?;
                let same = |(_, context): &(&str, &Context)| {
                    address("the context", &context.url).is_ok_and(|its| its == url)
                };
                let all = book
                    .contexts
                    .iter()
                    .map(|(name, context)| (name.as_str(), context));
                let context = named.filter(same).or_else(|| all.into_iter().find(same));
                (url, origin, context)
            }
            (None, Some((name, context))) => {
                let origin = format!("context {name}");
                (address(&origin, &context.url)?, origin, Some((name, context)))
            }
            (None, None) => (address("the default", FALLBACK)?, "the default".to_owned(), None),
        };
        let mut target = Self {
            url,
            url_from,
            key: None,
            key_from: None,
            ca: context.and_then(|(_, context)| context.ca.clone()),
            ca_from: context.map(|(name, _)| format!("context {name}")),
            context: context.map(|(name, _)| name.to_owned()),
        };
        target.choose_key(remote, variable, context, book.loose_key.as_deref())?;
        target.choose_ca(remote)?;
        Ok(target)
    }

    fn choose_key(
        &mut self,
        remote: &Remote,
        variable: impl Fn(&str) -> Option<String>,
        context: Option<(&str, &Context)>,
        loose: Option<&str>,
    ) -> Result<(), ClientError> {
        let flag = remote.api_key.clone().map(|key| (key, "--api-key".to_owned()));
        let environment = || {
            KEYS.iter()
                .find_map(|name| variable(name).map(|key| (key, (*name).to_owned())))
        };
        let kept = || {
            let (name, context) = context?;
            Some((context.api_key.clone()?, format!("context {name}")))
        };
        let loose = || loose.map(|key| (key.to_owned(), "the file of contexts".to_owned()));
        let Some((key, origin)) = flag.or_else(environment).or_else(kept).or_else(loose) else {
            return Ok(());
        };
        let key = key.trim().to_owned();
        if key.is_empty() || key.chars().any(|c| c.is_control() || !c.is_ascii()) {
            return Err(ClientError::Key(origin));
        }
        (self.key, self.key_from) = (Some(key), Some(origin));
        Ok(())
    }

    fn choose_ca(&mut self, remote: &Remote) -> Result<(), ClientError> {
        let Some(path) = &remote.ca else {
            self.ca_from = self.ca_from.take().filter(|_| self.ca.is_some());
            return Ok(());
        };
        let pem = std::fs::read_to_string(path).map_err(|source| ClientError::File {
            operation: "read the authority in",
            path: path.clone(),
            source,
        })?;
        (self.ca, self.ca_from) = (Some(pem), Some("--ca".to_owned()));
        Ok(())
    }

    /// The address for messages.
    pub fn shown(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }
}

/// The address in a text.
pub fn address(origin: &str, text: &str) -> Result<Url, ClientError> {
    let refuse = |why: String| ClientError::Url {
        origin: origin.to_owned(),
        text: text.escape_debug().take(200).collect(),
        why,
    };
    let url: Url = text.trim().parse().map_err(|error| refuse(format!("{error}")))?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        return Err(refuse(
            "it starts neither with https:// nor with http://".to_owned(),
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(
            "a name or password in it is not used; give a key by --api-key".to_owned(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(
            "it ends with the path; leave out what follows ? or #".to_owned(),
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &Remote, variables: &[(&str, &str)], file: &str) -> Result<Target, ClientError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, file).unwrap();
        let remote = Remote {
            config: Some(path),
            ..flags.clone()
        };
        Target::resolve(&remote, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const FILE: &str = "current: a\ncontexts:\n  a: {url: 'https://a:1', api_key: ka, ca: pa}\n  b: {url: 'https://b:2', api_key: kb}\n";

    #[test]
    fn a_flag_wins_over_the_environment_which_wins_over_the_context() {
        let flags = |master: Option<&str>, key: Option<&str>, context: Option<&str>| Remote {
            master: master.map(str::to_owned),
            api_key: key.map(str::to_owned),
            context: context.map(str::to_owned),
            ..Remote::default()
        };
        let environment = [("MASTER_URL", "https://e:3/"), ("MASTER_API_KEY", "ke")];
        let second = [("FFMPEG_RTMP_API_KEY", "kf")];
        for (flags, variables, url, key) in [
            (flags(None, None, None), &[][..], "https://a:1", Some("ka")),
            (flags(None, None, Some("b")), &[], "https://b:2", Some("kb")),
            (flags(None, None, None), &environment, "https://e:3", Some("ke")),
            (
                flags(None, None, Some("b")),
                &environment,
                "https://b:2",
                Some("ke"),
            ),
            (
                flags(Some("https://f:4"), Some("kx"), None),
                &environment,
                "https://f:4",
                Some("kx"),
            ),
            (flags(None, None, None), &second, "https://a:1", Some("kf")),
            // The key of one scheduler is never shown to another; that of the same one is.
            (flags(Some("https://f:4"), None, None), &[], "https://f:4", None),
            (
                flags(Some("https://b:2/"), None, None),
                &[],
                "https://b:2",
                Some("kb"),
            ),
        ] {
            let target = resolve(&flags, variables, FILE).unwrap();
            assert_eq!((target.shown().as_str(), target.key.as_deref()), (url, key));
        }
        let fallback = resolve(&Remote::default(), &[], "").unwrap();
        assert_eq!(fallback.shown(), "https://localhost:8080");
        assert!(!format!("{:?}", resolve(&Remote::default(), &[], FILE).unwrap()).contains("ka"));
    }

    #[test]
    fn an_address_that_cannot_be_meant_is_refused() {
        for text in [
            "localhost:8080",
            "ftp://x",
            "https://",
            "https://user:pw@x",
            "https://x/?a=b",
            "",
        ] {
            let error = address("--master", text).unwrap_err();
            assert!(error.to_string().starts_with("--master"), "{error}");
        }
        assert_eq!(
            address("x", "https://x:1").unwrap(),
            address("x", "https://x:1/").unwrap()
        );
    }
}
