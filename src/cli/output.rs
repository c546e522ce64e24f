//! Text for people.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::size::display;
use crate::escape::drives_a_terminal;
pub use crate::escape::escape;
use crate::ops::convert::{Part, Reason, Report};
use crate::ops::info::{Info, TensorInfo};
use crate::ops::{merge, unpack};

/// Prints to standard output. That the reader went away is not an error: it has
/// seen what it wanted.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints an error with its causes in one line to standard error.
pub fn print_error(program: &str, error: &anyhow::Error) {
    eprintln!("{program}: {}", escape(&format!("{error:#}")));
}

/// A value as JSON, indented, with a line feed at the end; what would drive a terminal is escaped
/// beyond what JSON asks for.
pub fn json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        // All of these have four digits, and outside strings there are none but line feeds.
        if drives_a_terminal(c) && c != '\n' {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    Ok(out)
}

/// Less of a model than this is not worth a line, whatever the reason that it is stored exactly.
const WORTH_A_LINE: f64 = 0.005;

pub fn report(report: &Report) -> String {
    let mut out = String::new();
    let lossy = report.tensors.iter().filter(|tensor| tensor.snr_db.is_some()).count();
    let _ = writeln!(out, "{}", escape(&report.output));
    if let Some(note) = &report.part {
        out += &part_of("the model", note.part);
    }
    let _ = writeln!(
        out,
        "  {} tensors, {} weights; {lossy} tensors stored lossily, {} exactly",
        report.tensors.len(),
        report.weights,
        report.tensors.len() - lossy,
    );
    let _ = writeln!(
        out,
        "  {} of safetensors became {}: {:.3} bits per weight",
        display(report.source_bytes),
        display(report.file_bytes),
        report.bits_per_weight,
    );
    let _ = writeln!(
        out,
        "  {:.2} times smaller than the source, {:.2} times smaller than FP32",
        report.ratio_source, report.ratio_fp32,
    );
    // That all of it was asked for is no news.
    for exact in report.exact.iter().filter(|e| e.share >= WORTH_A_LINE && e.reason != Reason::Lossless) {
        let _ = writeln!(
            out,
            "  kept exactly, {}: {} tensors, {:.1} % of the source, {} became {}",
            exact.reason.text(),
            exact.tensors,
            100.0 * exact.share,
            display(exact.source_bytes),
            display(exact.stored_bytes),
        );
    }
    if let Some(snr) = report.snr_db {
        let _ = writeln!(
            out,
            "  SNR {snr:.2} dB over the lossily stored weights; {:.1} % of all weights are exactly zero",
            100.0 * report.sparsity,
        );
    }
    let costs: Vec<f64> = report.tensors.iter().filter_map(|tensor| tensor.prime_cost_db).collect();
    if !costs.is_empty() {
        let primes = report.tensors.iter().filter(|tensor| tensor.grid == Some("prime")).count();
        let _ = writeln!(
            out,
            "  prime grid for {primes} of {lossy} tensors; it costs {:.3} dB against the uniform grid on average",
            costs.iter().sum::<f64>() / costs.len() as f64,
        );
    }
    let rate = report.source_bytes as f64 / report.seconds.max(1e-9);
    let _ = writeln!(out, "  {:.1} s, {}/s of the source", report.seconds, display(rate as u64));
    for (path, bytes) in &report.left_out {
        let _ = writeln!(out, "  left out: {} ({}), too large for a small file", escape(path), display(*bytes));
    }
    out
}

/// So many of something.
fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

pub fn unpacked(report: &unpack::Report) -> String {
    let (files, bytes) = (count(report.files, "file"), display(report.bytes));
    let rate = display((report.written_bytes as f64 / report.seconds.max(1e-9)) as u64);
    let kept = if report.kept > 0 { format!("; {} of them from an earlier run", report.kept) } else { String::new() };
    format!("{}: {files}, {bytes}{kept}; {:.1} s, {rate}/s\n", escape(&report.output), report.seconds)
}

pub fn merged(report: &merge::Report) -> String {
    let models = count(report.models.len() as u64, "model");
    let (inputs, file) = (display(report.input_bytes), display(report.file_bytes));
    let mut out = format!("{}: {models}, {inputs} became {file}\n", escape(&report.output));
    let _ = writeln!(
        out,
        "  {} of {} arrays and {} more blocks were there already: {} stored once",
        report.shared_arrays,
        report.arrays,
        report.shared_blocks,
        display(report.shared_bytes),
    );
    if report.parts > 0 {
        let _ = writeln!(out, "  joined from {} parts", report.parts);
    }
    if report.differences > 0 {
        let _ = writeln!(out, "  stored as differences: {}", count(report.differences, "array"));
    }
    for model in &report.models {
        let _ = writeln!(out, "  {}", escape(model));
    }
    out
}

pub fn info(info: &Info, tensors: bool) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {}, {} weights, {:.3} bits per weight",
        escape(&info.file),
        display(info.file_bytes),
        info.weights,
        info.bits_per_weight
    );
    let _ = writeln!(
        out,
        "  {:.2} times smaller than the source, {:.2} times smaller than FP32; {} blocks, index {}",
        info.ratio_source,
        info.ratio_fp32,
        info.blocks,
        display(info.index_bytes),
    );
    for model in &info.models {
        let _ = writeln!(out, "model {}", escape(&model.name));
        out += &model.part.map_or_else(String::new, |part| part_of(&model.name, part));
        for file in &model.files {
            let path = escape(&file.path);
            let _ = writeln!(out, "  {:>9} -> {:>9}  {path}", display(file.size), display(file.stored_bytes));
            for tensor in file.tensors.iter().filter(|_| tensors) {
                out += &tensor_line(tensor);
            }
        }
    }
    out
}

/// That a model is not whole.
pub fn part_of(model: &str, part: Part) -> String {
    let what = "upg merge makes the model of all of them";
    format!("  part {} of {} of {}: {what}\n", part.number(), part.of(), escape(model))
}

/// A tensor with its rate and noise.
pub fn tensor_line(tensor: &TensorInfo) -> String {
    let snr = tensor.snr_db.map_or("exact".to_owned(), |snr| format!("{snr:.2} dB"));
    format!(
        "    {:>7.3} bits  {:<12} {snr:>9}  {:>4.1} % zeros  {} {:?} {}\n",
        tensor.bits_per_weight,
        tensor.codec,
        100.0 * tensor.sparsity,
        tensor.dtype,
        tensor.shape,
        escape(&tensor.name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|number| count(number, "file")), ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn names_cannot_drive_a_terminal() {
        assert_eq!(escape("a\x1b[2Jb\u{9b}c\u{202e}d"), "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d");
        assert_eq!(escape("größe-7.weight"), "größe-7.weight");
        let name = "a\x1b\u{9b}\u{202e}\x7f\nö";
        let text = json(&[name]).expect("JSON");
        assert_eq!(text, "[\n  \"a\\u001b\\u009b\\u202e\\u007f\\nö\"\n]\n");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).expect("JSON"), [name]);
    }
}
