//! The file of contexts, `~/.ffrtmp/config.yaml`: schedulers by name, each with its address, its authority and a key.
//! Written whole, for its owner only. The predecessor's keys `master_url` (`master`) and `api_key` (`token`) at the top
//! are the context `default`.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ClientError;

/// Name of the context that the predecessor's keys make.
const DEFAULT: &str = "default";

/// One scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Address.
    pub url: String,
    /// Certificate of its authority, PEM; the system's authorities count when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Key to show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
}

/// The file as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    contexts: BTreeMap<String, Context>,
    #[serde(alias = "master", skip_serializing)]
    master_url: Option<String>,
    #[serde(alias = "token", skip_serializing)]
    api_key: Option<String>,
}

/// What is remembered.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    /// Name of the context that is used unless another is named.
    pub current: Option<String>,
    /// All of them.
    pub contexts: BTreeMap<String, Context>,
    /// A key without an address, as the predecessor's file may have it.
    pub loose_key: Option<String>,
}

/// Where the file is unless a flag says otherwise.
pub fn default_path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let home = variable("HOME").filter(|home| !home.is_empty())?;
    Some(Path::new(&home).join(".ffrtmp/config.yaml"))
}

impl Book {
    /// Reads the file. One that was not named need not be there.
    pub fn read(
        named: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ClientError> {
        let path = named.map(Path::to_owned).or_else(|| default_path(variable));
        let Some(path) = path else {
            return Ok(Self::empty(PathBuf::new()));
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                Ok(Self::empty(path))
            }
            Err(source) => Err(ClientError::File {
                operation: "read",
                path,
                source,
            }),
        }
    }

    /// The file, or an empty one in its place: for those who are about to write it.
    pub fn read_or_new(
        named: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ClientError> {
        match named {
            Some(path) if !path.exists() => Ok(Self::empty(path.to_owned())),
            _ => Self::read(named, variable),
        }
    }

    fn empty(path: PathBuf) -> Self {
        Self {
            path,
            current: None,
            contexts: BTreeMap::new(),
            loose_key: None,
        }
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self, ClientError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let written = if text.trim().is_empty() {
            Written::default()
        } else {
            serde_saphyr::from_str_with_options(text, options).map_err(|error| ClientError::Content {
                path: path.clone(),
                why: error.to_string(),
            })?
        };
        let Written {
            mut current,
            mut contexts,
            master_url,
            api_key,
        } = written;
        let mut loose_key = None;
        match master_url {
            Some(url) => {
                contexts.entry(DEFAULT.to_owned()).or_insert(Context {
                    url,
                    ca: None,
                    api_key,
                });
                current = current.or_else(|| Some(DEFAULT.to_owned()));
            }
            None => loose_key = api_key,
        }
        Ok(Self {
            path,
            current,
            contexts,
            loose_key,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The context of that name, or the current one; `None` where none is current.
    pub fn context(&self, name: Option<&str>) -> Result<Option<(&str, &Context)>, ClientError> {
        let Some(name) = name.or(self.current.as_deref()) else {
            return Ok(None);
        };
        match self.contexts.get_key_value(name) {
            Some((name, context)) => Ok(Some((name, context))),
            None => Err(self.unknown(name)),
        }
    }

    /// That there is no such context.
    pub fn unknown(&self, name: &str) -> ClientError {
        let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        ClientError::NoContext {
            name: name.to_owned(),
            known: if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
        }
    }

    /// Who else may read the keys in it: the file's permissions, where they go beyond its owner.
    pub fn open_to_others(&self) -> Option<u32> {
        let mode = std::fs::metadata(&self.path).ok()?.permissions().mode() & 0o777;
        (mode & 0o077 != 0).then_some(mode)
    }

    /// Writes it, whole or not at all, readable by its owner only.
    pub fn write(&self) -> Result<(), ClientError> {
        let failed = |operation: &'static str| {
            let path = self.path.clone();
            move |source| ClientError::File {
                operation,
                path,
                source,
            }
        };
        let written = Written {
            current: self.current.clone(),
            contexts: self.contexts.clone(),
            master_url: None,
            api_key: None,
        };
        let text = serde_saphyr::to_string(&written).map_err(|error| ClientError::Content {
            path: self.path.clone(),
            why: error.to_string(),
        })?;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("make the directory of"))?;
        // Files of this crate are made with 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed("write beside"))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed("write"))?;
        file.persist(&self.path)
            .map_err(|error| failed("replace")(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_predecessors_file_is_the_context_default() {
        for text in [
            "master_url: https://a:8080\napi_key: k\n",
            "master: https://a:8080\ntoken: k\n",
        ] {
            let book = Book::parse(PathBuf::new(), text).unwrap();
            let (name, context) = book.context(None).unwrap().unwrap();
            assert_eq!((name, context.url.as_str()), ("default", "https://a:8080"));
            assert_eq!(context.api_key.as_deref(), Some("k"));
        }
        let book = Book::parse(PathBuf::new(), "api_key: k\n").unwrap();
        assert_eq!(book.loose_key.as_deref(), Some("k"));
    }

    #[test]
    fn what_was_written_is_read_again_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config.yaml");
        let none = |_: &str| None;
        let mut book = Book::read_or_new(Some(&path), none).unwrap();
        let context = Context {
            url: "https://s:1".to_owned(),
            ca: Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned()),
            api_key: Some("#: tricky 'key'".to_owned()),
        };
        book.contexts.insert("prod".to_owned(), context.clone());
        book.current = Some("prod".to_owned());
        book.write().unwrap();
        let again = Book::read(Some(&path), none).unwrap();
        assert_eq!(again.contexts["prod"], context);
        assert_eq!(again.open_to_others(), None);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(again.open_to_others(), Some(0o644));
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line() {
        let error = Book::parse(PathBuf::from("c.yaml"), "current: a\nbogus: 1\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("c.yaml") && text.contains("line 2") && text.contains("bogus"),
            "{text}"
        );
        assert!(Book::read(Some(Path::new("/nonexistent/c.yaml")), |_| None).is_err());
    }
}
