//! Links without the C library and its start, and embeds the files of `tests/golden` and `tests/bad`.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    let tests = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let golden: String = files(&tests.join("golden"))
        .iter()
        .map(|path| format!("({}, include_str!({:?})),\n", named(path), path.with_extension("sha256")))
        .collect();
    let bad: String = files(&tests.join("bad")).iter().map(|path| named(path) + ",\n").collect();
    let source = format!(
        "/// Name and content, and the hashes of the files that it holds.\n\
         pub const GOLDEN: &[((&str, &[u8]), &str)] = &[\n{golden}];\n\
         /// Name and content.\n\
         pub const BAD: &[(&str, &[u8])] = &[\n{bad}];\n\
         /// A line for each: its name and its error.\n\
         pub const ERRORS: &str = include_str!({:?});\n",
        tests.join("bad/errors.txt")
    );
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("files.rs");
    fs::write(out, source).expect("writes");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    println!("cargo:rerun-if-changed={}", directory.display());
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "upg")).collect();
    files.sort();
    files
}

fn named(path: &Path) -> String {
    format!("({:?}, include_bytes!({path:?}).as_slice())", path.file_name().expect("a name"))
}
