//! Extended attributes: the counters of a mount, and how each file is stored.

use serde_json::json;

use crate::vfs::{Ino, Vfs};

const PREFIX: &str = "user.upg.";

/// Names of all attributes of an inode, as listxattr has them.
pub fn names(vfs: &Vfs, ino: Ino) -> Vec<u8> {
    let mut names = Vec::new();
    for (name, _) in attributes(vfs, ino) {
        names.extend_from_slice(PREFIX.as_bytes());
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    names
}

/// The value of an attribute, or None if there is none of this name.
pub fn value(vfs: &Vfs, ino: Ino, name: &str) -> Option<String> {
    let name = name.strip_prefix(PREFIX)?;
    attributes(vfs, ino).into_iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
}

fn attributes(vfs: &Vfs, ino: Ino) -> Vec<(&'static str, String)> {
    let cache = vfs.cache_stats();
    let requests: Vec<String> = vfs
        .requests()
        .counts()
        .map(|(bound, count)| bound.map_or(format!("larger:{count}"), |bound| format!("<={bound}:{count}")))
        .collect();
    let mut all = vec![
        ("cache.hits", cache.hits.to_string()),
        ("cache.misses", cache.misses.to_string()),
        ("cache.evictions", cache.evictions.to_string()),
        ("cache.bytes", cache.bytes.to_string()),
        ("cache.capacity", cache.capacity.to_string()),
        ("decoded.blocks", cache.decoded_blocks.to_string()),
        ("decoded.bytes", cache.decoded_bytes.to_string()),
        ("ahead.blocks", cache.ahead_blocks.to_string()),
        ("ahead.wasted", cache.wasted_blocks.to_string()),
        ("requests", requests.join(" ")),
        ("errors", vfs.errors().to_string()),
        ("stats", stats(vfs)),
    ];
    all.extend(vfs.archive().counters().into_iter().map(|(name, count)| (name, count.to_string())));
    if let Some(pushed) = vfs.push_stats() {
        all.extend([
            ("pushed.bytes", pushed.bytes.to_string()),
            ("pushed.hit", pushed.hit.to_string()),
            ("pushed.wasted", pushed.wasted.to_string()),
        ]);
    }
    if let Some(kib) = vfs.kernel_readahead() {
        all.push(("kernel_readahead_kb", kib.to_string()));
    }
    if let Some(id) = vfs.file(ino) {
        let (bits, codecs) = vfs.file_coding(id);
        all.push(("codec", codecs.join("+")));
        if let Some(bits) = bits {
            all.push(("bits_per_weight", format!("{bits:.4}")));
        }
    }
    if let Some(attributes) = vfs.attributes(ino) {
        all.push(("stored_bytes", attributes.stored.to_string()));
    }
    all
}

fn stats(vfs: &Vfs) -> String {
    let cache = vfs.cache_stats();
    let requests: serde_json::Map<String, serde_json::Value> = vfs
        .requests()
        .counts()
        .map(|(bound, count)| (bound.map_or("larger".to_owned(), |bound| bound.to_string()), count.into()))
        .collect();
    json!({
        "cache": {
            "hits": cache.hits,
            "misses": cache.misses,
            "evictions": cache.evictions,
            "bytes": cache.bytes,
            "capacity": cache.capacity,
        },
        "decoded": { "blocks": cache.decoded_blocks, "bytes": cache.decoded_bytes },
        "ahead": { "blocks": cache.ahead_blocks, "wasted": cache.wasted_blocks },
        "pushed": vfs.push_stats().map(|p| json!({ "bytes": p.bytes, "hit": p.hit, "wasted": p.wasted })),
        "kernel_readahead_kb": vfs.kernel_readahead(),
        "requests": requests,
        "errors": vfs.errors(),
    })
    .to_string()
}
