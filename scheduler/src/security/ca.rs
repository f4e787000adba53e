//! The scheduler's own certificate authority: made on the first start, it signs the server's certificate and those of
//! nodes. Its fingerprint is what clients pin, so the server's certificate may be renewed as often as we like.
//!
//! **Refuses** to sign what a request asks beyond its public key: names, uses and validity are ours.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::file::{self, FileError};
use super::rotate;
use super::token::{self, RandomError};

/// Validity of the CA.
const CA_DAYS: u64 = 3650;
/// Validity of the server's certificate.
const SERVER_DAYS: u64 = 90;
/// Validity of a node's certificate.
pub const NODE_DAYS: u64 = 30;
/// How far certificates reach into the past, for clocks that are slow.
const SKEW: Duration = Duration::from_hours(1);

/// Certificates could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The certificate crate refused.
    #[error("{step}")]
    Make {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// A file does not hold what its name says.
    #[error("{} holds no {what}; restore it, or move {} away to have new ones made", path.display(), path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Half of a pair is there.
    #[error("{} is missing beside {}; restore it, or move both away to have new ones made", missing.display(), present.display())]
    Half {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
}

fn made(step: &'static str) -> impl FnOnce(rcgen::Error) -> CaError {
    move |source| CaError::Make { step, source }
}

/// A certificate and its key, PEM.
pub struct Pair {
    /// Certificate, then its issuer's.
    pub chain: String,
    /// Key.
    pub key: String,
}

/// An authority to follow this one.
pub(super) struct Successor {
    /// Its certificate, signed by itself.
    pub(super) cert: String,
    /// Its key.
    pub(super) key: String,
    /// Its certificate, signed by this authority.
    pub(super) cross: String,
}

/// The authority, loaded.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    fingerprint: String,
    old: String,
    cross: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Loads `ca.crt` and `ca.key` of a directory, or makes them.
    pub fn open(directory: &Path) -> Result<Self, CaError> {
        rotate::finish(directory)?;
        let (cert_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        let pair = match (file::read(&cert_path)?, file::read(&key_path)?) {
            (Some(cert), Some(key)) => {
                file::warn_if_shared(&key_path);
                (
                    text(cert, &cert_path, "certificate")?,
                    text(key, &key_path, "key")?,
                )
            }
            (None, None) => {
                let (cert, key) = new_ca()?;
                // The key first: a certificate without its key would be refused at the next start.
                file::write_private(&key_path, key.as_bytes())?;
                file::write_private(&cert_path, cert.as_bytes())?;
                tracing::info!("made a certificate authority in {}", directory.display());
                (cert, key)
            }
            (Some(_), None) => {
                return Err(CaError::Half {
                    present: cert_path,
                    missing: key_path,
                });
            }
            (None, Some(_)) => {
                return Err(CaError::Half {
                    present: key_path,
                    missing: cert_path,
                });
            }
        };
        let key = KeyPair::from_pem(&pair.1).map_err(made("read the CA's key"))?;
        let der = first_der(&pair.0).ok_or(CaError::Content {
            path: cert_path,
            what: "certificate",
        })?;
        let issuer = Issuer::from_ca_cert_pem(&pair.0, key).map_err(made("read the CA's certificate"))?;
        let others = |name: &str| {
            let path = directory.join(name);
            text(file::read(&path)?.unwrap_or_default(), &path, "certificate")
        };
        Ok(Self {
            issuer,
            fingerprint: fingerprint(&der),
            pem: pair.0,
            old: others(rotate::OLD)?,
            cross: others(rotate::CROSS)?,
        })
    }

    /// What a chain holds behind the certificate this authority signed: itself, the way to the authorities before it,
    /// and those themselves.
    pub(super) fn tail(&self) -> String {
        format!("{}{}{}", self.pem, self.cross, self.old)
    }

    /// This authority and those before it whose certificates are still taken, PEM.
    pub(super) fn trusted(&self) -> String {
        format!("{}{}", self.pem, self.old)
    }

    /// An authority to follow this one, vouched for by it.
    pub(super) fn successor(&self) -> Result<Successor, CaError> {
        let key = KeyPair::generate().map_err(made("make the CA's key"))?;
        let mut params = ca_params()?;
        let cert = params
            .self_signed(&key)
            .map_err(made("sign the CA's certificate"))?
            .pem();
        limit(&mut params, Timestamp::now(), CA_DAYS)?;
        let cross = params
            .signed_by(&key, &self.issuer)
            .map_err(made("sign the new CA's certificate"))?
            .pem();
        Ok(Successor {
            cert,
            key: key.serialize_pem(),
            cross,
        })
    }

    /// Certificate of the authority, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the authority's certificate, lower hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A new certificate for the server.
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<Pair, CaError> {
        let key = KeyPair::generate().map_err(made("make a key"))?;
        let mut params =
            CertificateParams::new(names.to_vec()).map_err(made("put the names into a certificate"))?;
        params.distinguished_name = common_name("ffrtmp scheduler");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        limit(&mut params, now, SERVER_DAYS)?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(made("sign the server's certificate"))?;
        Ok(Pair {
            chain: format!("{}{}", cert.pem(), self.tail()),
            key: key.serialize_pem(),
        })
    }

    /// A certificate for a node, over the key of its request (PEM). The request's signature is checked.
    pub fn issue_node(&self, node: &str, request: &str, now: Timestamp) -> Result<String, CaError> {
        let mut request = CertificateSigningRequestParams::from_pem(request)
            .map_err(made("read the certificate request"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(node);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        limit(&mut params, now, NODE_DAYS)?;
        request.params = params;
        let cert = request
            .signed_by(&self.issuer)
            .map_err(made("sign the node's certificate"))?;
        Ok(format!("{}{}", cert.pem(), self.pem))
    }
}

fn text(bytes: Vec<u8>, path: &Path, what: &'static str) -> Result<String, CaError> {
    String::from_utf8(bytes).map_err(|_| CaError::Content {
        path: path.to_path_buf(),
        what,
    })
}

fn new_ca() -> Result<(String, String), CaError> {
    let key = KeyPair::generate().map_err(made("make the CA's key"))?;
    let cert = ca_params()?
        .self_signed(&key)
        .map_err(made("sign the CA's certificate"))?;
    Ok((cert.pem(), key.serialize_pem()))
}

fn ca_params() -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    // A name of its own keeps two authorities apart in one trust store.
    params.distinguished_name = common_name(&format!("ffrtmp CA {}", token::random::<5>()?));
    // No bound on the path: after a rotation it leads over the new authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit(&mut params, Timestamp::now(), CA_DAYS)?;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

/// Serial number and validity.
fn limit(params: &mut CertificateParams, now: Timestamp, days: u64) -> Result<(), CaError> {
    let serial = token::random::<10>()?;
    params.serial_number = Some(SerialNumber::from_slice(&Sha256::digest(serial.as_bytes())[..16]));
    let at = |time: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time.as_second().unsigned_abs())
    };
    params.not_before = at(now) - SKEW;
    params.not_after = at(now) + Duration::from_hours(24 * days);
    Ok(())
}

/// SHA-256 of a certificate, lower hexadecimal digits.
pub fn fingerprint(der: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(der))
}

fn first_der(pem: &str) -> Option<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    Some(pem.contents)
}

/// What is asked of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFacts {
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// Names and addresses it is for.
    pub names: Vec<String>,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

impl CertFacts {
    /// Of a certificate in DER; `None` when it cannot be read.
    pub fn of_der(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let names = cert.subject_alternative_name().ok().flatten();
        let time = |seconds| Timestamp::from_second(seconds).ok();
        Some(Self {
            common_name: cert
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                .map(str::to_owned),
            names: names
                .map(|names| names.value.general_names.iter().filter_map(name_text).collect())
                .unwrap_or_default(),
            not_before: time(cert.validity().not_before.timestamp())?,
            not_after: time(cert.validity().not_after.timestamp())?,
        })
    }

    /// Of the first certificate of a PEM text.
    pub fn of_pem(pem: &str) -> Option<Self> {
        Self::of_der(&first_der(pem)?)
    }

    /// Whether two thirds of its life are over.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let life = self.not_after.as_second() - self.not_before.as_second();
        now.as_second() >= self.not_before.as_second() + life / 3 * 2
    }
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}
