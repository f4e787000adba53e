//! A new authority in the place of the one in force, without locking anybody out.
//!
//! The old key signs the new authority's certificate (a cross signature) before it is destroyed. The server shows that
//! certificate beside its own, so that whoever trusts the old authority finds a path to it; certificates of nodes that
//! the old one signed are taken until they end. Nothing has to be told to anybody on the day.
//!
//! Every step leaves files that the next start takes: the new pair waits under names of its own until all else is
//! written, and [`finish`] completes what was cut off.

use std::fs;
use std::path::Path;

use super::ca::{Authority, CaError};
use super::file::{self, FileError};

/// Authorities before this one, self-signed, newest first.
pub(super) const OLD: &str = "ca.old.crt";
/// This authority's certificate signed by the one before it, and so on back.
pub(super) const CROSS: &str = "ca.cross.crt";
/// The pair that is to be in force.
const NEXT: (&str, &str) = ("ca.next.crt", "ca.next.key");
/// The pair in force.
const NOW: (&str, &str) = ("ca.crt", "ca.key");

/// Makes a new authority in this directory; its fingerprint. It is in force when the directory is opened next.
pub(super) fn rotate(directory: &Path) -> Result<String, CaError> {
    let present = Authority::open(directory)?;
    let next = present.successor()?;
    let at = |name: &str| directory.join(name);
    file::write_private(&at(NEXT.1), next.key.as_bytes())?;
    prepend(&at(OLD), present.pem())?;
    prepend(&at(CROSS), &next.cross)?;
    // From here on the rotation is decided; a start finishes it.
    file::write_private(&at(NEXT.0), next.cert.as_bytes())?;
    finish(directory)?;
    Ok(Authority::open(directory)?.fingerprint().to_owned())
}

/// Forgets every authority before the one in force.
pub(super) fn forget_old(directory: &Path) -> Result<String, CaError> {
    let present = Authority::open(directory)?;
    for name in [OLD, CROSS] {
        remove(&directory.join(name))?;
    }
    Ok(present.fingerprint().to_owned())
}

/// Completes a rotation that was cut off after it was decided, and clears away one that was cut off before.
pub(super) fn finish(directory: &Path) -> Result<(), CaError> {
    let at = |name: &str| directory.join(name);
    if at(NEXT.0).exists() {
        // The key first: the certificate's name is what says that something is left to do.
        if at(NEXT.1).exists() {
            rename(&at(NEXT.1), &at(NOW.1))?;
        }
        rename(&at(NEXT.0), &at(NOW.0))?;
    }
    Ok(remove(&at(NEXT.1))?)
}

fn prepend(path: &Path, pem: &str) -> Result<(), FileError> {
    let rest = file::read(path)?.unwrap_or_default();
    // A rotation that was cut off may have written it already.
    if rest.starts_with(pem.as_bytes()) {
        return Ok(());
    }
    let mut all = pem.as_bytes().to_vec();
    all.extend(rest);
    file::write_private(path, &all)
}

fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::at("put in force", to))
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::at("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_authority_stays_known_until_it_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let first = Authority::open(place.path()).unwrap();
        let second = rotate(place.path()).unwrap();
        assert_ne!(second, first.fingerprint());
        let third = rotate(place.path()).unwrap();
        let now = Authority::open(place.path()).unwrap();
        assert_eq!(now.fingerprint(), third);
        let count = |text: &str| text.matches("BEGIN CERTIFICATE").count();
        // Itself, two cross signatures, two old ones.
        assert_eq!(count(&now.tail()), 5);
        assert!(now.tail().contains(first.pem()));
        assert_eq!(forget_old(place.path()).unwrap(), third);
        assert_eq!(count(&Authority::open(place.path()).unwrap().tail()), 1);
    }

    #[test]
    fn a_rotation_cut_off_anywhere_leaves_a_pair_that_fits() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let before = Authority::open(place.path()).unwrap();
        // Before it was decided: the new key alone.
        fs::write(at(NEXT.1), "half a key").unwrap();
        let same = Authority::open(place.path()).unwrap();
        assert_eq!(same.fingerprint(), before.fingerprint());
        assert!(!at(NEXT.1).exists());
        // After: with both files, and with the key already in its place.
        let (old_cert, old_key) = (fs::read(at(NOW.0)).unwrap(), fs::read(at(NOW.1)).unwrap());
        let after = rotate(place.path()).unwrap();
        let (cert, key) = (fs::read(at(NOW.0)).unwrap(), fs::read(at(NOW.1)).unwrap());
        for (cert_now, key_now, next_key) in [(&old_cert, &old_key, Some(&key)), (&old_cert, &key, None)] {
            fs::write(at(NOW.0), cert_now).unwrap();
            fs::write(at(NOW.1), key_now).unwrap();
            fs::write(at(NEXT.0), &cert).unwrap();
            if let Some(key) = next_key {
                fs::write(at(NEXT.1), key).unwrap();
            }
            assert_eq!(Authority::open(place.path()).unwrap().fingerprint(), after);
            assert_eq!(fs::read(at(NOW.1)).unwrap(), key);
        }
    }
}
