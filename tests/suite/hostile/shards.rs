//! Hostile safetensors files.

use serde_json::{Value, json};

type Case = (&'static str, Vec<u8>);

/// Length, header and data.
fn shard(header: &[u8], data: usize) -> Vec<u8> {
    with_length(header.len() as u64, header, data)
}

fn with_length(length: u64, header: &[u8], data: usize) -> Vec<u8> {
    [&length.to_le_bytes()[..], header, &vec![0; data]].concat()
}

fn of(header: &Value, data: usize) -> Vec<u8> {
    shard(header.to_string().as_bytes(), data)
}

/// One tensor.
fn one(dtype: &str, shape: Value, offsets: Value, data: usize) -> Vec<u8> {
    of(&json!({"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}), data)
}

/// Two of F32 with 4 elements, which begin at these bytes.
fn two(a: u64, b: u64, data: usize) -> Vec<u8> {
    let entry = |start: u64| json!({"dtype": "F32", "shape": [2, 2], "data_offsets": [start, start + 16]});
    of(&json!({"a": entry(a), "b": entry(b)}), data)
}

pub fn cases() -> Vec<Case> {
    let all = u64::MAX;
    let nested = |depth: usize| [b"{\"w\": {\"x\": ".to_vec(), b"[".repeat(depth)].concat();
    let twice = br#"{"w": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
        "w": {"dtype": "I8", "shape": [2], "data_offsets": [0, 2]}}"#;
    // Each of 2^61 - 1 bytes, which is the most that has so many bits.
    let large = (1u64 << 61) - 1;
    let many = (0..9).map(|i| {
        let (start, end) = ((i * large), (i * large).saturating_add(large));
        (format!("w{i}"), json!({"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}))
    });
    let more_than_there_is = Value::Object(many.take(8).collect());
    vec![
        ("shard-empty", vec![]),
        ("shard-of-7-bytes", vec![2, 0, 0, 0, 0, 0, 0]),
        ("shard-length-beyond-the-file", with_length(1 << 20, b"{}", 0)),
        ("shard-length-100-mb", with_length(100_000_000, b"{}", 0)),
        ("shard-length-over-100-mb", with_length(100_000_001, b"{}", 0)),
        ("shard-length-near-2-to-the-64", with_length(all - 3, b"{}", 0)),
        ("shard-no-header", shard(b"", 0)),
        ("shard-not-json", shard(b"[not json", 0)),
        ("shard-not-utf-8", shard(b"{\"\xff\xfe\": 1}", 0)),
        ("shard-not-an-object", shard(b"[]", 0)),
        ("shard-header-cut", shard(b"{\"w\": {\"dtype\": \"U8\", \"sha", 0)),
        ("shard-two-headers", shard(b"{}{}", 0)),
        ("shard-second-line", shard(b"{\n\"w\": {\n\"dtype\": 1}}", 0)),
        ("shard-nested-200-deep", shard(&nested(200), 0)),
        ("shard-tensor-is-text", shard(b"{\"w\": \"U8\"}", 0)),
        ("shard-tensor-without-shape", of(&json!({"w": {"dtype": "U8", "data_offsets": [0, 1]}}), 1)),
        ("shard-dtype-twice", shard(br#"{"w": {"dtype": "U8", "dtype": "I8"}}"#, 0)),
        ("shard-tensor-twice", shard(twice, 2)),
        ("shard-metadata-twice", shard(br#"{"__metadata__": {}, "__metadata__": {}}"#, 0)),
        ("shard-metadata-of-numbers", of(&json!({"__metadata__": {"a": 1}}), 0)),
        ("shard-metadata-is-a-tensor", one_called("__metadata__")),
        ("shard-dtype-unknown", one("F128", json!([2, 2]), json!([0, 64]), 64)),
        ("shard-dtype-is-a-number", one_of_dtype(&json!(4))),
        ("shard-shape-and-bytes-differ", one("F32", json!([2, 3]), json!([0, 16]), 16)),
        ("shard-shape-negative", one("F32", json!([-2, -2]), json!([0, 16]), 16)),
        ("shard-shape-of-fractions", one("F32", json!([2.0, 2.0]), json!([0, 16]), 16)),
        (
            "shard-shape-beyond-u64",
            shard(br#"{"w": {"dtype": "U8", "shape": [18446744073709551616], "data_offsets": [0, 1]}}"#, 1),
        ),
        ("shard-shape-overflows", one("F32", json!([1u64 << 40, 1u64 << 40]), json!([0, 0]), 0)),
        ("shard-shape-overflows-in-bits", one("F32", json!([1u64 << 60]), json!([0, 0]), 0)),
        ("shard-shape-33-dimensions", one("U8", json!(vec![1; 33]), json!([0, 1]), 1)),
        ("shard-part-of-a-byte", one("F4", json!([3]), json!([0, 2]), 2)),
        ("shard-offsets-reversed", one("F32", json!([2, 2]), json!([16, 0]), 16)),
        ("shard-offsets-three", one("F32", json!([2, 2]), json!([0, 16, 32]), 32)),
        ("shard-offsets-one", one("F32", json!([2, 2]), json!([16]), 16)),
        ("shard-offsets-near-2-to-the-64", one("U8", json!([1]), json!([all - 1, all]), 1)),
        ("shard-starts-late", one("F32", json!([2, 2]), json!([4, 20]), 20)),
        ("shard-gap", two(0, 20, 36)),
        ("shard-overlap", two(0, 8, 24)),
        ("shard-same-bytes", two(0, 0, 16)),
        ("shard-bytes-behind", one("F32", json!([2, 2]), json!([0, 16]), 17)),
        ("shard-bytes-missing", one("F32", json!([2, 2]), json!([0, 16]), 15)),
        ("shard-bytes-behind-nothing", of(&json!({}), 1)),
        ("shard-data-of-2-to-the-64", of(&more_than_there_is, 0)),
    ]
}

fn one_called(name: &str) -> Vec<u8> {
    of(&json!({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}), 1)
}

fn one_of_dtype(dtype: &Value) -> Vec<u8> {
    of(&json!({"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}), 1)
}
