//! Packs the inputs of a target that lie in a directory into its committed corpus, the
//! smaller ones first, up to a number of bytes: `pack TARGET DIRECTORY [BYTES]`.

use std::fs;

use upg_fuzz::corpora;

const MOST: usize = 2 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, directory, most @ ..] = &arguments[..] else { panic!("usage: pack TARGET DIRECTORY [BYTES]") };
    let most = most.first().map_or(MOST, |bytes| bytes.parse().expect("a number of bytes"));
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let inputs: Vec<Vec<u8>> = entries.map(|path| fs::read(path).expect("an input")).collect();
    let all = inputs.len();
    let packed = corpora::write(target, inputs, most).expect("a corpus");
    println!("{target}: {packed} of {all} inputs");
}
