//! The state directory over several starts, and who gets in.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::scope::Need;
use super::*;
use crate::config::Secret;

fn config(dir: &Path) -> Config {
    Config {
        database: dir.join("master.db"),
        listen: "127.0.0.1:0".parse().unwrap(),
        ..Config::default()
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn the_first_start_makes_a_ca_a_certificate_and_a_key_and_the_second_keeps_them() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let state = config.state_dir();
    let first = Security::open(&config, now()).unwrap().security;
    for name in [
        "ca.key",
        "server.key",
        "credentials.json",
        "admin.key",
        "audit.log",
    ] {
        let mode = std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let key = std::fs::read_to_string(state.join("admin.key")).unwrap();
    assert!(
        first
            .identify(Some(key.trim()), None, now())
            .unwrap()
            .may(Need::Scope(Scope::Admin))
    );
    assert_eq!(first.identify(None, None, now()), Err(Refusal::Missing));
    let shown = |name: &str| std::fs::read(state.join(name)).unwrap();
    let before = [shown("ca.crt"), shown("server.crt"), shown("admin.key")];
    let second = Security::open(&config, now()).unwrap().security;
    assert_eq!(before, [shown("ca.crt"), shown("server.crt"), shown("admin.key")]);
    assert_eq!(first.authority.fingerprint(), second.authority.fingerprint());
}

#[test]
fn the_certificate_is_renewed_at_two_thirds_of_its_life_or_for_a_new_name_and_the_ca_stays() {
    let place = tempfile::tempdir().unwrap();
    let mut config = config(place.path());
    let security = Security::open(&config, now()).unwrap().security;
    let ends = security.certificate_ends().unwrap();
    security.refresh(now() + Duration::from_hours(24 * 58)).unwrap();
    assert_eq!(security.certificate_ends(), Some(ends));
    security.refresh(now() + Duration::from_hours(24 * 61)).unwrap();
    assert!(security.certificate_ends().unwrap() > ends);
    config.tls.names = vec!["media.example".to_owned()];
    let fingerprint = security.authority.fingerprint().to_owned();
    let again = Security::open(&config, now()).unwrap().security;
    let pem = std::fs::read_to_string(config.state_dir().join("server.crt")).unwrap();
    assert!(
        ca::CertFacts::of_pem(&pem)
            .unwrap()
            .names
            .contains(&"media.example".to_owned())
    );
    assert_eq!(again.authority.fingerprint(), fingerprint);
}

#[test]
fn half_a_ca_is_refused_with_the_way_out() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    drop(Security::open(&config, now()).unwrap());
    std::fs::remove_file(config.state_dir().join("ca.key")).unwrap();
    let text = Security::open(&config, now()).unwrap_err().to_string();
    assert!(
        text.contains("ca.key is missing") && text.contains("move both away"),
        "{text}"
    );
}

#[test]
fn named_certificates_must_exist_and_can_be_made() {
    let place = tempfile::tempdir().unwrap();
    let mut config = config(place.path());
    config.tls.cert = Some(place.path().join("certs/master.crt"));
    config.tls.key = Some(place.path().join("certs/master.key"));
    let text = Security::open(&config, now()).unwrap_err().to_string();
    assert!(text.contains("--generate-cert"), "{text}");
    Security::generate_cert(&config, now()).unwrap();
    Security::open(&config, now()).unwrap();
}

#[test]
fn the_operators_own_key_is_taken_as_it_is_and_an_open_api_must_be_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let mut config = config(place.path());
    let own = "q0P+/x==chosen by openssl";
    config.access.api_key = Secret::new(own);
    let security = Security::open(&config, now()).unwrap().security;
    assert_eq!(security.identify(Some(own), None, now()), Ok(Identity::Master));
    assert_eq!(
        security.identify(Some("other"), None, now()),
        Err(Refusal::Unknown)
    );
    assert!(!config.state_dir().join("admin.key").exists());
    config.access.open_api = true;
    let open = Security::open(&config, now()).unwrap().security;
    assert_eq!(open.identify(None, None, now()), Ok(Identity::Anyone));
    assert_eq!(open.identify(Some("other"), None, now()), Ok(Identity::Anyone));
}

#[test]
fn a_nodes_certificate_counts_only_while_the_node_is_registered() {
    let place = tempfile::tempdir().unwrap();
    let security = Security::open(&config(place.path()), now()).unwrap().security;
    assert_eq!(security.identify(None, Some("n1"), now()), Err(Refusal::NoNode));
    security.book.admit_node("n1", false, now()).unwrap();
    let node = security.identify(None, Some("n1"), now()).unwrap();
    assert!(node.may(Need::Node) && !node.may(Need::Scope(Scope::Read)));
    security.book.remove_node("n1", now()).unwrap();
    assert_eq!(security.identify(None, Some("n1"), now()), Err(Refusal::NoNode));
}

#[test]
fn a_node_gets_the_names_and_uses_we_choose_whatever_it_asks() {
    let place = tempfile::tempdir().unwrap();
    let security = Security::open(&config(place.path()), now()).unwrap().security;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut asked = rcgen::CertificateParams::new(vec!["master.example".to_owned()]).unwrap();
    asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = asked.serialize_request(&key).unwrap().pem().unwrap();
    let pem = security.authority.issue_node("n1", &request, now()).unwrap();
    let facts = ca::CertFacts::of_pem(&pem).unwrap();
    assert_eq!(facts.common_name.as_deref(), Some("n1"));
    assert!(facts.names.is_empty());
    let (_, first) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let cert = first.parse_x509().unwrap();
    assert!(!cert.is_ca());
    let uses = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(uses.client_auth && !uses.server_auth);
    assert!(security.authority.issue_node("n1", "no request", now()).is_err());
}
