use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::usage::Usage;
use super::*;
use crate::object::UNIT;
use crate::object::buffers::Buffers;
use crate::object::fetch::{Mark, Version};

const SIZE: u64 = 5 * UNIT / 2;

fn version(tag: &str) -> Version {
    Version { size: SIZE, mark: Some(Mark::ETag(tag.into())), modified: 0 }
}

fn kept(place: &Path, tag: &str) -> KeptObject {
    let cache = DiskCache::open(place, LEAST).expect("may be one").expect("a disk");
    let object = KeptObject::new(cache, "s3://bucket/key", &version(tag), Arc::default(), Buffers::default());
    object.expect("has a tag")
}

fn bytes(unit: u64) -> Vec<u8> {
    let range = version("").bytes_of(unit);
    (range).map(|i| (i % 251) as u8).collect()
}

#[test]
fn what_was_put_is_read_by_others_of_the_same_version() {
    let place = tempfile::tempdir().expect("a directory");
    let one = kept(place.path(), "a");
    assert!(!one.has(2));
    one.put(2, &bytes(2), 0);
    let other = kept(place.path(), "a");
    let mut out = vec![0; 1000];
    for _ in 0..2 {
        assert!(other.has(2) && other.read(2, 77, &mut out));
        assert_eq!(out, bytes(2)[77..1077]);
    }
    assert_eq!(other.read_whole(2).expect("is there"), bytes(2));
    assert!(!other.read(1, 0, &mut out));
    assert!(!kept(place.path(), "b").has(2));
}

#[test]
fn what_is_damaged_is_not_read() {
    let place = tempfile::tempdir().expect("a directory");
    for damage in [0, 1000, UNIT as usize, UNIT as usize + 7] {
        let one = kept(place.path(), "a");
        one.put(0, &bytes(0), 0);
        let mut stored = fs::read(one.path(0)).expect("is there");
        stored[damage] ^= 4;
        fs::write(one.path(0), &stored).expect("writes");
        assert!(one.read_whole(0).is_none());
        assert!(!one.has(0));
        // Another unit's bytes are not this one's.
        one.put(1, &bytes(1), 0);
        fs::rename(one.path(1), one.path(0)).expect("renames");
        assert!(one.read_whole(0).is_none());
        one.put(0, &bytes(0), 0);
        fs::write(one.path(0), &stored[..damage]).expect("writes");
        assert!(one.read_whole(0).is_none());
    }
}

#[test]
fn a_part_is_read_alone_and_from_the_file_that_is_there_now() {
    let place = tempfile::tempdir().expect("a directory");
    let mut out = vec![0; 1000];
    let one = kept(place.path(), "a");
    one.put(0, &bytes(0), 0);
    assert!(one.read(0, 5, &mut out));
    assert_eq!(out, bytes(0)[5..1005]);
    // Removed by another, it stays as long as it is open.
    fs::remove_file(one.path(0)).expect("removes");
    one.will_need(0, 0..UNIT);
    assert!(one.read(0, 7, &mut out));
    assert_eq!(out, bytes(0)[7..1007]);
    one.put(0, &bytes(1), 0);
    assert!(one.read(0, 7, &mut out));
    assert_eq!(out, bytes(1)[7..1007]);
    one.forget(0);
    assert!(!one.has(0) && !one.read(0, 7, &mut out));
    // What came before it was forgotten is no better.
    one.put(0, &bytes(0), 0);
    assert!(!one.has(0));
    // Too short for what is asked.
    one.put(0, &bytes(0), 1);
    let file = File::options().write(true).open(one.path(0)).expect("opens");
    file.set_len(1500).expect("truncates");
    assert!(one.read(0, 500, &mut out) && one.has(0));
    assert!(!one.read(0, 501, &mut out) && !one.has(0));
}

#[test]
fn a_cache_stays_within_its_size_and_keeps_what_was_used() {
    let place = tempfile::tempdir().expect("a directory");
    let total = || -> u64 {
        let files = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
        let units = files(place.path().into()).flat_map(|object| files(object.path()));
        units.map(|unit| unit.metadata().map_or(0, |m| m.len())).sum()
    };
    let objects: Vec<KeptObject> = (0..40).map(|i| kept(place.path(), &i.to_string())).collect();
    let mut out = [0; 10];
    for (i, object) in objects.iter().enumerate() {
        assert!((0..2).all(|unit| object.put(unit, &bytes(unit), 0)));
        // Files' times tell milliseconds apart, which these writes may not be.
        let past = SystemTime::now() - Duration::from_secs(1000 - i as u64);
        let times = |unit| File::options().write(true).open(object.path(unit)).and_then(|f| f.set_modified(past));
        (0..2).for_each(|unit| times(unit).expect("sets the time"));
        assert!(total() <= LEAST);
        assert!(objects[0].read(0, 0, &mut out), "after {i}");
    }
    assert!(total() > LEAST / 2);
    assert!(!objects[1].read(0, 0, &mut out) && objects[39].read(1, 0, &mut out));
    // What is not the cache's is not counted, and stays.
    let others = [place.path().join("model/0000000a"), objects[39].directory.join("notes.txt")];
    fs::create_dir(place.path().join("model")).expect("makes a directory");
    others.iter().for_each(|other| fs::write(other, bytes(0)).expect("writes"));
    let of_others = bytes(0).len() as u64;
    let total = || total() - 2 * of_others;
    // What was counted wrongly is counted again.
    for wrong in ["", "none", "99999999999999999999999", "18446744073709551615"] {
        fs::write(Usage::path(place.path()), wrong).expect("writes");
        objects[2].put(0, &bytes(0), 0);
        assert!(objects[2].read(0, 0, &mut out), "{wrong}");
        assert!(others.iter().all(|other| other.exists()));
        let usage = Usage::lock(place.path()).expect("locks");
        assert_eq!(usage.read().expect("reads"), Some(total()));
    }
}

#[test]
fn what_is_wrong_with_a_place_is_an_error_and_what_is_wrong_with_a_disk_is_not() {
    let place = tempfile::tempdir().expect("a directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("may");
    DiskCache::open(place.path(), LEAST).expect_err("everybody may write there");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("may");
    DiskCache::open(place.path(), LEAST - 1).expect_err("too small");
    let file = place.path().join("file");
    fs::write(&file, "").expect("writes");
    DiskCache::open(&file, LEAST).expect_err("no directory");
    DiskCache::open(&file.join("below"), LEAST).expect_err("no directory");
    // Whoever has the lock keeps nobody from opening, or from reading.
    let one = kept(place.path(), "a");
    assert!(one.put(0, &bytes(0), 0));
    let _locked = Usage::lock(place.path()).expect("locks");
    let mut out = [0; 10];
    assert!(kept(place.path(), "a").read(0, 0, &mut out));
}
