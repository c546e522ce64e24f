//! What lies already where a result is to go.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::object;

/// Fails if there is a file, a directory or an object of this name.
pub fn refuse_existing(place: &Path) -> Result<()> {
    let exists = if object::is_address(place) { object::exists(place)? } else { fs::symlink_metadata(place).is_ok() };
    if exists { Err(exists_already(place, "name")) } else { Ok(()) }
}

/// The error that something is in the way, and what to do: choose another `what`, or replace it.
pub fn exists_already(place: &Path, what: &str) -> Error {
    let place = object::shown(place);
    Error::Invalid(format!("{place} exists; choose another {what} with -o, or replace it with --force"))
}
