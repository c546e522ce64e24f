//! The files in `tests/bad`: each breaks one rule, and is refused with the error that
//! `tests/bad/errors.txt` has for it. `UPG_BLESS=1` writes files and errors.

mod index;
mod parts;
mod payload;
mod shards;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use upg::archive::Archive;
use upg::shard::Shard;
use upg::source::LocalFile;

use crate::support::try_unpack;
pub use parts::{Parts, index_of, reseal, reseal_trailer};

/// What a file gives that breaks no rule after all.
const ACCEPTED: &str = "accepted";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

/// Every file by its name.
fn generate() -> BTreeMap<String, Vec<u8>> {
    let named = |(name, bytes): (&str, Vec<u8>), suffix| (format!("{name}.{suffix}"), bytes);
    let upg = index::cases().into_iter().chain(payload::cases()).map(|case| named(case, "upg"));
    let shards = shards::cases().into_iter().map(|case| named(case, "safetensors"));
    let mut files = BTreeMap::new();
    for (name, bytes) in upg.chain(shards) {
        assert!(files.insert(name.clone(), bytes).is_none(), "two cases are called {name}");
    }
    files
}

/// The error that a file gives when it is opened, or else when all of it is decoded.
fn error_of(path: &Path) -> String {
    let result = if path.extension().is_some_and(|extension| extension == "upg") {
        Archive::open(path).and_then(|archive| try_unpack(&archive)).map(|_| ())
    } else {
        LocalFile::open(path).and_then(|file| Shard::read(&file)).map(|_| ())
    };
    let Err(error) = result else { return ACCEPTED.to_owned() };
    let error = error.to_string();
    let rest = error.strip_prefix(&format!("{}: ", path.display()));
    rest.unwrap_or_else(|| panic!("the file is not named: {error}")).to_owned()
}

/// The committed files.
fn committed() -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory())
        .expect("tests/bad")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "txt"))
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(path).expect("bytes")))
        .collect()
}

#[test]
fn hostile_files_are_those_that_the_generator_makes() {
    let generated = generate();
    if std::env::var_os("UPG_BLESS").is_some() {
        let _ = fs::remove_dir_all(directory());
        fs::create_dir(directory()).expect("tests/bad");
        let mut errors = String::new();
        for (name, bytes) in &generated {
            let path = directory().join(name);
            fs::write(&path, bytes).expect("a file");
            errors += &format!("{name}: {}\n", error_of(&path));
        }
        fs::write(directory().join("errors.txt"), &errors).expect("the errors");
        assert!(!errors.contains(&format!(": {ACCEPTED}\n")), "{errors}");
    }
    let committed = committed();
    assert!(committed.len() >= 60, "only {} hostile files", committed.len());
    assert!(committed.keys().eq(generated.keys()), "other files are there");
    for (name, bytes) in &generated {
        assert!(committed[name] == *bytes, "{name} is another");
    }
}

#[test]
fn every_hostile_file_is_refused_with_its_error() {
    let errors = fs::read_to_string(directory().join("errors.txt")).expect("the errors");
    let files = committed();
    assert_eq!(errors.lines().count(), files.len());
    for (name, line) in files.keys().zip(errors.lines()) {
        assert_eq!(format!("{name}: {}", error_of(&directory().join(name))), line);
    }
}
