//! The counters of a mount in the text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use super::counters::{Kind, counters};
use crate::vfs::{ROOT, Vfs};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric with its HELP and TYPE lines.
pub fn metrics(vfs: &Vfs) -> String {
    let mut out = String::with_capacity(8 << 10);
    describe(&mut out, "build_info", "gauge", "1, with the version of upg.");
    let _ = writeln!(out, "upg_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    let stored = vfs.attributes(ROOT).map_or(0, |attributes| attributes.stored);
    describe(&mut out, "stored_bytes", "gauge", "What the mounted files take compressed.");
    let _ = writeln!(out, "upg_stored_bytes {stored}");
    for counter in counters(vfs) {
        let Some(value) = counter.value else { continue };
        let kind = if counter.kind == Kind::Total { "counter" } else { "gauge" };
        describe(&mut out, counter.metric, kind, counter.help);
        let _ = writeln!(out, "upg_{} {}", counter.metric, value * counter.unit);
    }
    describe(&mut out, "request_bytes", "histogram", "Reads that the kernel asked for, by their size.");
    let mut count = 0;
    for (bound, more) in vfs.requests().counts() {
        count += more;
        let bound = bound.map_or("+Inf".to_owned(), |bound| bound.to_string());
        let _ = writeln!(out, "upg_request_bytes_bucket{{le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "upg_request_bytes_sum {}", vfs.requests().bytes());
    let _ = writeln!(out, "upg_request_bytes_count {count}");
    out
}

fn describe(out: &mut String, metric: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP upg_{metric} {help}\n# TYPE upg_{metric} {kind}");
}
