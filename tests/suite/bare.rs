//! The library without std: `tests/bare`, a program with nothing under it, reads the golden files and
//! refuses the hostile ones with the errors that they give here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};
use upg::archive::Archive;
use upg::format::ExtentKind;

/// Builds the program beside what the tests were built in, and returns where it is.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bare/Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest);
    succeed(cargo.arg("--target-dir").arg(target));
    target.join("release/upg-bare")
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it can be run");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// The `.upg` files of a directory of `tests`.
fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "upg")).collect();
    files.sort();
    files
}

/// The hash of all tensors.
fn tensors(path: &Path) -> String {
    let archive = Archive::open(path).expect("a golden file opens");
    let mut hash = Sha256::new();
    for model in archive.models() {
        for (id, file) in archive.files(model) {
            for tensor in archive.extents(file).iter().filter(|extent| extent.kind == ExtentKind::Tensor) {
                let mut bytes = vec![0; tensor.length as usize];
                archive.read_at(id, tensor.offset, &mut bytes).expect("a tensor");
                hash.update(&bytes);
            }
        }
    }
    format!("{:x}", hash.finalize())
}

/// What the program must say.
fn expected() -> String {
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let golden: String = files("golden").iter().map(|path| format!("{}: {}\n", name(path), tensors(path))).collect();
    format!("{golden}{} hostile files\n", files("bad").len())
}

#[test]
fn a_program_with_nothing_under_it_reads_models() {
    let program = build();
    let said = succeed(&mut Command::new(&program));
    let (files, damage) = said.split_at(expected().len().min(said.len()));
    assert_eq!(files, expected());
    // The error that one damaged bit gave, and how many bits were flipped in all.
    assert!(damage.starts_with("damaged: tensor ") && damage.ends_with(" bits\n"), "{damage}");

    let symbols = succeed(Command::new("nm").arg(&program));
    assert!(symbols.contains("3upg") && !symbols.contains("3std"), "{symbols}");
    assert_eq!(succeed(Command::new("nm").arg("-u").arg(&program)), "");
    // Nor is anything loaded when it starts.
    let segments = succeed(Command::new("readelf").arg("-lW").arg(&program));
    assert!(segments.contains("LOAD") && !segments.contains("INTERP"), "{segments}");
}
