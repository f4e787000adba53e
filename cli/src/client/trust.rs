//! Whom to trust: the authority of a scheduler, known by the SHA-256 of its certificate.
//!
//! Only [`authority`] ever talks to somebody unverified, and it shows no key: it fetches the authority's certificate,
//! which is public, and keeps it only if it is the one that was named.

use data_encoding::HEXLOWER;
use ffrtmp_api::CaView;
use ffrtmp_governor::tls::use_ring;
use reqwest::{Certificate, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::error::ClientError;
use super::target::Target;

/// The certificates in a PEM text, at least one.
pub(super) fn certificates(pem: &str) -> Result<Vec<Certificate>, ClientError> {
    let refused = |why: &str| ClientError::Ca(why.to_owned());
    let found =
        Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| refused("it is no certificate in PEM"))?;
    if found.is_empty() {
        return Err(refused(
            "it holds no certificate; PEM begins with -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(found)
}

/// Fingerprint of the first certificate of a PEM text.
pub fn fingerprint(pem: &str) -> Result<String, ClientError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| ClientError::Ca("it is no certificate in PEM".to_owned()))?;
    Ok(HEXLOWER.encode(&Sha256::digest(&der)))
}

/// A fingerprint as people write it: 64 hexadecimal digits, with colons or blanks among them, `sha256:` before them.
pub fn parse_fingerprint(text: &str) -> Result<String, ClientError> {
    let bare = text.trim().to_ascii_lowercase();
    let bare = bare.strip_prefix("sha256:").unwrap_or(&bare);
    let digits: String = bare.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    if digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err(ClientError::NoFingerprint(
        text.escape_debug().take(100).collect(),
    ))
}

/// Fetches the authority's certificate and keeps it if it has this fingerprint.
pub async fn authority(url: &Url, wanted: &str) -> Result<String, ClientError> {
    use_ring();
    let target = Target {
        url: url.clone(),
        url_from: String::new(),
        key: None,
        key_from: None,
        ca: None,
        ca_from: None,
        context: None,
    };
    let http = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .connect_timeout(super::CONNECT)
        .timeout(super::SILENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|source| ClientError::Setup(source.without_url()))?;
    let client = super::Client { http, target };
    let view: CaView = client.get(&["ca"], &[]).await?;
    let found = fingerprint(&view.certificate)?;
    if found == wanted {
        Ok(view.certificate)
    } else {
        Err(ClientError::Fingerprint {
            url: client.target.shown(),
            found,
            wanted: wanted.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_in_every_usual_form() {
        let digits = "ab".repeat(32);
        let colons = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).unwrap());
        let colons = colons.collect::<Vec<_>>().join(":").to_uppercase();
        for text in [digits.clone(), colons, format!("sha256:{digits}")] {
            assert_eq!(parse_fingerprint(&text).unwrap(), digits);
        }
        for bad in ["", "abcd", &"zz".repeat(32)] {
            assert!(parse_fingerprint(bad).is_err(), "{bad}");
        }
        assert!(certificates("").is_err() && fingerprint("x").is_err());
    }
}
