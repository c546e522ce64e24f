//! Objects of a store, read and written like files: S3, Google Cloud Storage, Azure, and web servers.
//!
//! A reader asks for bytes and waits; what serves it is a few threads of a runtime (`client`) that
//! fetch the object in units of 1 MiB (`fetch`), several at once and ahead of the reader, keep the
//! last of them in memory (`units`) and, if asked to, all of them on a disk (`disk`).
//!
//! What is read is one version of the object: the first answer's ETag is asked for with every later
//! request, and every answer must have it. Whoever waits is told of a failure after the deadline.

#[cfg(feature = "object-store")]
mod address;
#[cfg(feature = "object-store")]
mod buffers;
#[cfg(feature = "object-store")]
mod claimed;
#[cfg(feature = "object-store")]
mod client;
#[cfg(feature = "object-store")]
mod counters;
#[cfg(feature = "object-store")]
mod disk;
#[cfg(feature = "object-store")]
mod failure;
#[cfg(feature = "object-store")]
mod fetch;
#[cfg(feature = "object-store")]
mod file;
#[cfg(feature = "object-store")]
mod profile;
#[cfg(feature = "object-store")]
mod sequences;
#[cfg(feature = "object-store")]
mod units;
#[cfg_attr(not(feature = "object-store"), path = "no_upload.rs")]
mod upload;

use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "object-store")]
pub use address::Address;
#[cfg(feature = "object-store")]
pub use file::ObjectFile;
pub use upload::{Upload, exists, put};

use crate::error::Result;
use crate::source::{LocalFile, ReadAt};

/// What is fetched and kept, in bytes; the last unit of an object is shorter.
#[cfg(feature = "object-store")]
const UNIT: u64 = 1 << 20;

/// How an object is read.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whoever waits for bytes is told of a failure after so long.
    pub deadline: Duration,
    /// Where to keep what was fetched, and how much of it, in bytes.
    pub disk_cache: Option<(PathBuf, u64)>,
}

/// How long whoever waits for bytes waits, unless something else is asked for.
pub const DEADLINE: Duration = Duration::from_secs(60);

impl Default for Access {
    fn default() -> Access {
        Access { deadline: DEADLINE, disk_cache: None }
    }
}

/// Whether it is the address of an object, and not a path.
pub fn is_address(place: &Path) -> bool {
    let scheme = place.to_str().and_then(|text| Some(text.split_once("://")?.0));
    scheme.is_some_and(|scheme| SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)))
}

/// What to call it in messages: of an address, nothing that could be a signature or a password.
pub fn shown(place: &Path) -> String {
    let text = place.display().to_string();
    if !is_address(place) {
        return text;
    }
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    let authority = rest.split('/').next().unwrap_or_default();
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    // A port is no password; a password may have slashes.
    let may_be_secret = match authority.rsplit_once(':') {
        Some((_, port)) => !port.bytes().all(|b| b.is_ascii_digit()),
        None => authority.contains(['@', '?', '#']),
    };
    let shown = match shown.rsplit_once('@') {
        Some((_, host)) if may_be_secret || authority.contains('@') => host,
        // The end of what is secret was cut off.
        None if may_be_secret => "...",
        _ => shown,
    };
    format!("{scheme}://{shown}")
}

/// What addresses begin with.
const SCHEMES: [&str; 5] = ["s3", "gs", "az", "http", "https"];

/// Opens a file by its path, or an object by its address.
pub fn open(place: &Path) -> Result<Box<dyn ReadAt>> {
    open_with(place, &Access::default())
}

/// The same, with other settings for objects.
pub fn open_with(place: &Path, access: &Access) -> Result<Box<dyn ReadAt>> {
    if is_address(place) { open_object(place, access) } else { Ok(Box::new(LocalFile::open(place)?)) }
}

#[cfg(feature = "object-store")]
fn open_object(address: &Path, access: &Access) -> Result<Box<dyn ReadAt>> {
    Ok(Box::new(ObjectFile::open(Address::parse(address)?, access)?))
}

#[cfg(not(feature = "object-store"))]
fn open_object(address: &Path, _: &Access) -> Result<Box<dyn ReadAt>> {
    Err(without(address))
}

#[cfg(not(feature = "object-store"))]
fn without(address: &Path) -> crate::error::Error {
    let what = "this upg was built without the feature object-store";
    crate::error::Error::Invalid(format!("{}: {what}", shown(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_not_addresses() {
        for path in ["phi-4.upg", "/mnt/s3:/phi-4.upg", "ftp://host/phi-4.upg", "a/s3://b/c", "s3:/bucket/key"] {
            assert!(!is_address(Path::new(path)), "{path}");
        }
        let signed = "https://me:secret@host/a.upg?sig=secret";
        assert_eq!(shown(Path::new(signed)), "https://host/a.upg");
        assert_eq!(shown(Path::new("https://me:sec/ret@host/a.upg")), "https://host/a.upg");
        for secret in ["me:sec?ret@host/a.upg", "me:12#34@host/a.upg", "me:s/e?c@host/a.upg", "me?@host/a.upg"] {
            assert_eq!(shown(Path::new(&format!("https://{secret}"))), "https://...", "{secret}");
        }
        for whole in ["why?@.upg", "s3://bucket/m@v2.upg", "http://host:9000/a@b.upg"] {
            assert_eq!(shown(Path::new(whole)), whole);
        }
        assert!(is_address(Path::new("S3://bucket/key")) && is_address(Path::new("https://host/a.upg?sig=1")));
    }
}
