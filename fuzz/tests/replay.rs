//! Every input of the committed corpora, as the fuzzer would run it.

use std::fs;
use std::path::Path;
use std::process::Command;

use upg_fuzz::{TARGETS, corpora};

fn replay(target: &str) {
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    let inputs = corpora::read(target).expect("a corpus");
    inputs.iter().for_each(|input| run(input));
    println!("{target}: {} inputs replayed", inputs.len());
    assert!(inputs.len() >= 50, "only {} inputs", inputs.len());
}

#[test]
fn blocks() {
    replay("block");
}

#[test]
fn conversions() {
    replay("convert");
}

#[test]
fn indices() {
    replay("index");
}

#[test]
fn ranges() {
    replay("read");
}

#[test]
fn searches() {
    replay("search");
}

#[test]
fn headers() {
    replay("shard");
}

/// What the fuzzers begin with is made when they are started: it must be possible to make it, and
/// none of it may be a finding.
#[test]
fn every_target_has_seeds() {
    let place = tempfile::tempdir().expect("a directory");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let mut seeds = Command::new(env!("CARGO_BIN_EXE_seeds"));
    let made = seeds.arg(place.path()).arg(tests.join("golden")).arg(tests.join("bad")).status();
    assert!(made.expect("it runs").success());
    for (target, run) in TARGETS {
        let seeds = fs::read_dir(place.path().join(target)).expect("a directory");
        let seeds = seeds.map(|entry| entry.expect("an entry").path());
        // The committed inputs are among them, and replayed above.
        let seeds: Vec<_> = seeds.filter(|path| !path.to_string_lossy().contains("committed-")).collect();
        seeds.iter().for_each(|path| run(&fs::read(path).expect("a seed")));
        println!("{target}: {} seeds", seeds.len());
        assert!(seeds.len() >= 5, "{target}: only {} seeds", seeds.len());
    }
}
