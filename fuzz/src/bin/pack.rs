//! Packs the inputs of a target that lie in a directory into its committed corpus, the
//! smaller ones first, up to a number of bytes: `pack TARGET DIRECTORY [BYTES]`. What takes
//! long is left out: the corpora are run by every check.

use std::fs;
use std::time::{Duration, Instant};

use upg_fuzz::{TARGETS, corpora};

const MOST: usize = 2 << 20;
const LONGEST: Duration = Duration::from_millis(60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, directory, most @ ..] = &arguments[..] else { panic!("usage: pack TARGET DIRECTORY [BYTES]") };
    let most = most.first().map_or(MOST, |bytes| bytes.parse().expect("a number of bytes"));
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let inputs: Vec<Vec<u8>> = entries.map(|path| fs::read(path).expect("an input")).collect();
    let all = inputs.len();
    let (_, run) = TARGETS.into_iter().find(|(name, _)| name == target).expect("a target");
    let quick = |input: &Vec<u8>| {
        let start = Instant::now();
        run(input);
        start.elapsed() < LONGEST
    };
    let inputs = inputs.into_iter().filter(quick).collect();
    let packed = corpora::write(target, inputs, most).expect("a corpus");
    println!("{target}: {packed} of {all} inputs");
}
