//! Every input of the committed corpora, as the fuzzer would run it.

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
