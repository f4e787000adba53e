//! The server's side of TLS: which certificate it shows, whose certificates it takes, and how both change while it runs.
//!
//! TLS 1.2 and 1.3, on ring. A certificate of our own making is renewed at two thirds of its life, or when a name is
//! missing from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::ca::{Authority, CaError, CertFacts};
use super::file::{self, FileError};
use crate::config::{ClientCerts, Tls};

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority or its certificates.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that was named is not there.
    #[error("{} does not exist; make it with --generate-cert, or leave --cert and --key out to use the scheduler's own CA", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// A file is no PEM of the right kind.
    #[error("read {what} in {}", path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate, key or CA do not make a server.
    #[error("set up TLS with {}", path.display())]
    Setup {
        /// The file with the certificate or the CA.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where the server's certificate and key are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Chain.
    pub cert: PathBuf,
    /// Key.
    pub key: PathBuf,
    /// Whether they are ours to renew.
    pub own: bool,
}

impl Files {
    /// As configured, else those of the state directory.
    pub fn of(tls: &Tls, state_dir: &Path) -> Self {
        match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => Self {
                cert: cert.clone(),
                key: key.clone(),
                own: false,
            },
            _ => Self {
                cert: state_dir.join("server.crt"),
                key: state_dir.join("server.key"),
                own: true,
            },
        }
    }

    /// Makes a certificate of the own CA in these files.
    pub fn generate(&self, authority: &Authority, names: &[String], now: Timestamp) -> Result<(), TlsError> {
        let pair = authority.issue_server(names, now)?;
        for path in [&self.cert, &self.key] {
            if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                file::private_dir(directory)?;
            }
        }
        // The key first: until the certificate follows, the old pair stays in the server's memory.
        file::write_private(&self.key, pair.key.as_bytes())?;
        file::write_private(&self.cert, pair.chain.as_bytes())?;
        Ok(())
    }

    /// Renews a certificate of ours where it is due or lacks a name. True when there is a new one.
    pub fn renew(&self, authority: &Authority, names: &[String], now: Timestamp) -> Result<bool, TlsError> {
        if !self.own {
            return Ok(false);
        }
        let pem = file::read(&self.cert)?.filter(|_| self.key.exists());
        let pem = pem.and_then(|pem| String::from_utf8(pem).ok());
        let facts = pem.as_deref().and_then(CertFacts::of_pem);
        let tail = authority.tail();
        let of_this_ca = pem.is_some_and(|pem| {
            let count = |text: &str| text.matches("BEGIN CERTIFICATE").count();
            pem.trim_end().ends_with(tail.trim_end()) && count(&pem) == count(&tail) + 1
        });
        let good = facts
            .is_some_and(|facts| !facts.is_due(now) && names.iter().all(|name| facts.names.contains(name)));
        if good && of_this_ca {
            return Ok(false);
        }
        self.generate(authority, names, now)?;
        Ok(true)
    }

    /// When the certificate ends; `None` when that cannot be read.
    pub fn not_after(&self) -> Option<Timestamp> {
        let pem = file::read(&self.cert).ok()??;
        Some(CertFacts::of_pem(std::str::from_utf8(&pem).ok()?)?.not_after)
    }
}

/// What the server runs with, from the files as they are now.
pub fn server_config(files: &Files, tls: &Tls, authority: &Authority) -> Result<Arc<ServerConfig>, TlsError> {
    for path in [&files.cert, &files.key] {
        if !path.exists() {
            return Err(TlsError::Missing { path: path.clone() });
        }
    }
    file::warn_if_shared(&files.key);
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Pem {
        what: "a private key",
        path: files.key.clone(),
        source,
    })?;
    let setup = |path: &Path| {
        let path = path.to_path_buf();
        move |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Setup { path, source }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(client_roots(tls, authority)?);
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    if tls.client_certs != ClientCerts::All {
        verifier = verifier.allow_unauthenticated();
    }
    let ca_path = tls.ca.clone().unwrap_or_else(|| files.cert.clone());
    let verifier = verifier.build().map_err(|error| setup(&ca_path)(error.into()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&files.cert)(error.into()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| setup(&files.cert)(error.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem {
        what: "certificates",
        path: path.to_path_buf(),
        source,
    };
    CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// Whose client certificates are taken: our own authority's and its predecessors', and those of the CA that was named.
fn client_roots(tls: &Tls, authority: &Authority) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut add = |der: CertificateDer<'static>, path: &Path| {
        roots.add(der).map_err(|error| TlsError::Setup {
            path: path.to_path_buf(),
            source: error.into(),
        })
    };
    let own = Path::new("the scheduler's own CA");
    let trusted = authority.trusted();
    for der in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        let der = der.map_err(|source| TlsError::Pem {
            what: "a certificate",
            path: own.to_path_buf(),
            source,
        })?;
        add(der, own)?;
    }
    if let Some(path) = &tls.ca {
        for der in certificates(path)? {
            add(der, path)?;
        }
    }
    Ok(roots)
}
