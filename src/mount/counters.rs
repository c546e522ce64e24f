//! The counters of a mount: one table, which attributes, JSON and metrics show.

use crate::vfs::Vfs;

/// How a counter moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up only, from 0 when the mount began.
    Total,
    /// Up and down, or not at all.
    Level,
}

/// A counter and its value.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    /// Of the extended attribute; in front of the dot stands its group, if it has one.
    pub name: &'static str,
    /// Of the metric, behind `upg_`: Prometheus wants the unit in it.
    pub metric: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// None if there is nothing to count.
    pub value: Option<u64>,
    /// How many of the metric's units one of the value's is.
    pub unit: u64,
}

/// All of them but the requests by size, which [`Vfs::requests`] has.
pub fn counters(vfs: &Vfs) -> Vec<Counter> {
    let cache = vfs.cache_stats();
    let pushed = vfs.push_stats();
    let always = |name, metric, kind, value, help| Counter { name, metric, help, kind, value: Some(value), unit: 1 };
    let total = |name, metric, value, help| always(name, metric, Kind::Total, value, help);
    let level = |name, metric, value, help| always(name, metric, Kind::Level, value, help);
    let push = |name, metric, value, help| Counter { value, ..total(name, metric, 0, help) };
    // Of files that are objects of a store.
    let counted = vfs.archive().counters();
    let object = |name: &'static str, metric, help| {
        let value = counted.iter().find(|(counted, _)| *counted == name).map(|(_, value)| *value);
        Counter { value, ..total(name, metric, 0, help) }
    };
    vec![
        total("cache.hits", "cache_hits_total", cache.hits, "Blocks that were asked for and were decoded already."),
        total("cache.misses", "cache_misses_total", cache.misses, "Blocks that had to be decoded for whoever asked."),
        total("cache.evictions", "cache_evictions_total", cache.evictions, "Decoded blocks that were let go."),
        level("cache.bytes", "cache_bytes", cache.bytes, "What decoded blocks take of the cache."),
        level("cache.capacity", "cache_capacity_bytes", cache.capacity, "What they may take."),
        total("decoded.blocks", "decoded_blocks_total", cache.decoded_blocks, "Blocks that were decoded."),
        total("decoded.bytes", "decoded_bytes_total", cache.decoded_bytes, "Bytes that were decoded."),
        total("ahead.blocks", "ahead_blocks_total", cache.ahead_blocks, "Blocks decoded ahead of readers."),
        total("ahead.wasted", "ahead_wasted_blocks_total", cache.wasted_blocks, "Those let go before a reader came."),
        push("pushed.bytes", "pushed_bytes_total", pushed.map(|p| p.bytes), "Bytes pushed into the page cache."),
        push("pushed.hit", "pushed_hit_bytes_total", pushed.map(|p| p.hit), "Those that a reader went past."),
        push("pushed.wasted", "pushed_wasted_bytes_total", pushed.map(|p| p.wasted), "Those no reader came for."),
        total("requested.bytes", "requested_bytes_total", vfs.requests().bytes(), "Bytes that the kernel asked for."),
        object("object.requests", "object_requests_total", "Requests to the store of objects."),
        object("object.bytes", "object_bytes_total", "Bytes that came from there."),
        object("object.retries", "object_retries_total", "Requests that had to be made again."),
        object("disk_cache.bytes_read", "disk_cache_read_bytes_total", "Bytes read from the disk cache."),
        object("disk_cache.bytes_written", "disk_cache_written_bytes_total", "Bytes written to it."),
        total("errors", "read_errors_total", vfs.errors(), "Reads that failed."),
        Counter {
            value: vfs.kernel_readahead().map(u64::from),
            unit: 1 << 10,
            ..level("kernel_readahead_kb", "kernel_readahead_bytes", 0, "How far the kernel reads ahead in the mount.")
        },
    ]
}
