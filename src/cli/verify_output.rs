//! What `upg verify` found, as text.

use std::fmt::Write as _;

use super::output::{escape, part_of};
use super::size::display;
use crate::ops::verify::{Comparison, Finding, Report};

pub fn report(report: &Report, tensors: bool) -> String {
    let mut out = String::new();
    let verdict = match report.findings.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        n => format!("{n} things are wrong"),
    };
    let _ = writeln!(out, "{}: {verdict}", escape(&report.file));
    for (model, part) in &report.parts {
        out += &part_of(model, *part);
    }
    for finding in &report.findings {
        let _ = writeln!(out, "  {}", line(finding));
    }
    let _ = writeln!(
        out,
        "  {}; {} blocks were decoded to {} in {:.1} s",
        display(report.file_bytes),
        report.blocks,
        display(report.decoded_bytes),
        report.seconds,
    );
    if let Some(comparison) = &report.against {
        out += &compared(comparison, tensors);
    }
    out
}

/// Where it is and what it is, in one line.
pub fn line(finding: &Finding) -> String {
    let mut place = Vec::new();
    if let Some(file) = &finding.file {
        place.push(match &finding.model {
            Some(model) => format!("{model}/{file}"),
            None => file.clone(),
        });
    }
    place.extend(finding.tensor.as_ref().map(|tensor| format!("tensor {tensor:?}")));
    place.extend(finding.blocks.map(|(first, last)| match first == last {
        true => format!("block {first}"),
        false => format!("blocks {first} to {last}"),
    }));
    place.extend(finding.bytes.map(|(start, end)| format!("bytes {start} to {}", end.saturating_sub(1))));
    place.extend(finding.offset.map(|offset| format!("stored at byte {offset}")));
    let separator = if place.is_empty() { "" } else { ": " };
    escape(&format!("{}{separator}{}", place.join(", "), finding.what))
}

fn compared(comparison: &Comparison, tensors: bool) -> String {
    let mut out = String::new();
    let exact = comparison.tensors.iter().filter(|tensor| tensor.differing_bytes == Some(0)).count();
    let _ = write!(
        out,
        "  of {} tensors in {}, {exact} are the same bit for bit",
        comparison.tensors.len(),
        escape(&comparison.source),
    );
    let mut noise: Vec<f64> = comparison.tensors.iter().filter_map(|tensor| tensor.snr_db).collect();
    noise.sort_by(f64::total_cmp);
    if let (Some(all), Some(least), Some(most)) = (comparison.snr_db, noise.first(), noise.last()) {
        let _ = write!(out, "; the others have an SNR of {least:.2} to {most:.2} dB, {all:.2} together");
    }
    out.push('\n');
    for (path, bytes) in &comparison.left_out {
        let _ = writeln!(out, "  not in the .upg file: {} ({})", escape(path), display(*bytes));
    }
    for tensor in comparison.tensors.iter().filter(|_| tensors) {
        let noise = match (tensor.snr_db, tensor.differing_bytes) {
            (Some(snr), _) => format!("{snr:.2} dB"),
            (None, Some(0)) => "exact".to_owned(),
            (None, _) => "differs".to_owned(),
        };
        let (dtype, shape, name) = (tensor.dtype, &tensor.shape, escape(&tensor.name));
        let _ = writeln!(out, "    {noise:>9}  {:<12} {dtype} {shape:?} {name}", tensor.codec);
    }
    out
}
