//! The same of sources: headers of safetensors files, and the small files beside them.

use std::fs;
use std::path::Path;

use upg::error::Result;
use upg::ops::convert::{LEAST_MEMORY, Options, Target, convert};
use upg::shard::Shard;
use upg::source::Memory;

use crate::counting::most_allocated;
use crate::{ANYTHING, PER_BYTE, alone, files};

fn read(name: &str, file: Vec<u8>) -> Result<Shard> {
    let size = file.len();
    let memory = Memory::new("memory", file);
    let (shard, most) = most_allocated(|| Shard::read(&memory));
    assert!(most <= ANYTHING + PER_BYTE * size, "{name}: {most} bytes for {size}");
    shard
}

#[test]
fn hostile_shards_take_little() {
    let _alone = alone();
    let files = files("bad", "safetensors");
    assert!(files.len() > 20);
    for (path, bytes) in files {
        assert!(read(&path.display().to_string(), bytes).is_err(), "{}", path.display());
    }
}

/// A megabyte of whatever is small in JSON and large in memory, if it is kept.
#[test]
fn headers_take_little_more_than_they_are() {
    let _alone = alone();
    let many = |part: &str| part.repeat((1 << 20) / part.len());
    let tensor = r#""dtype":"U8","shape":[0],"data_offsets":[0,0]"#;
    let tensors = (0..20_000).map(|i| format!(r#""{i}":{{{tensor}}},"#)).collect::<String>();
    let valid = [
        ("white space", format!("{{{}}}", many(" "))),
        (
            "metadata",
            format!(
                r#"{{"__metadata__":{{{}"a":""}}}}"#,
                (0..90_000).map(|i| format!(r#""{i}":"","#)).collect::<String>()
            ),
        ),
        ("one entry of metadata", format!(r#"{{"__metadata__":{{"a":"{}"}}}}"#, many("b"))),
        ("a name", format!(r#"{{"{}":{{{tensor}}}}}"#, many("n"))),
        ("escapes in a name", format!(r#"{{"{}":{{{tensor}}}}}"#, many("\\u0061"))),
        ("tensors", format!(r#"{{{tensors}"z":{{{tensor}}}}}"#)),
        ("what is not read", format!(r#"{{"w":{{"x":[{}0],{tensor}}}}}"#, many("0,"))),
        ("objects that are not read", format!(r#"{{"w":{{"x":[{}{{}}],{tensor}}}}}"#, many("{},"))),
    ];
    for (name, header) in valid {
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        read(name, file).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let hostile = [
        ("a shape", format!(r#"{{"w":{{"shape":[{}1]}}}}"#, many("0,"))),
        ("nested lists", many("[")),
        ("nested lists that are not read", format!(r#"{{"w":{{"x":{}"#, many("["))),
        ("nested objects", format!(r#"{{"w":{}"#, many("{\"x\":"))),
        ("an element type", format!(r#"{{"w":{{"dtype":"{}"}}}}"#, many("F"))),
        ("offsets", format!(r#"{{"w":{{"data_offsets":[{}0]}}}}"#, many("0,"))),
        ("a tensor again and again", format!(r#"{{{}"w":{{{tensor}}}}}"#, many(&format!(r#""w":{{{tensor}}},"#)))),
        ("a number", format!(r#"{{"w":{{"shape":[{}]}}}}"#, many("9"))),
    ];
    for (name, header) in hostile {
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        assert!(read(name, file).is_err(), "{name}");
    }
}

fn most_of_conversion(source: &Path) -> usize {
    let place = tempfile::tempdir().expect("a directory");
    let options = Options {
        target: Target::Lossless,
        threads: 1,
        memory: LEAST_MEMORY,
        ..Options::new(source, place.path().join("out.upg"))
    };
    most_allocated(|| convert(&options, &()).expect("a valid source")).1
}

/// `config.json` is the one small file that is understood: no more of it than is needed.
#[test]
fn a_large_configuration_takes_no_more_than_another_file() {
    let _alone = alone();
    let place = tempfile::tempdir().expect("a directory");
    let list = format!("{{\"a\": [{}0]}}", "0,".repeat(4 << 20));
    fs::write(place.path().join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").expect("a file");
    fs::write(place.path().join("other.json"), &list).expect("a file");
    let other = most_of_conversion(place.path());
    fs::rename(place.path().join("other.json"), place.path().join("config.json")).expect("renamed");
    let config = most_of_conversion(place.path());
    assert!(config <= other + 2 * list.len(), "{config} bytes for a list in config.json, {other} for another file");
}
