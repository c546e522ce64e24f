//! What `upg bench` measured, as tables for people.

use std::fmt::Write as _;

use super::output::{escape, info};
use super::size::display;
use crate::ops::bench::{Bench, Direction, FileBench, Of, Rate, Speed, SyntheticBench};

pub fn bench(bench: &Bench) -> String {
    let machine = &bench.machine;
    let mut out = format!("upg {} on {}, {} threads\n", bench.upg, escape(&machine.cpu), machine.threads);
    match &bench.of {
        Of::Synthetic(synthetic) => rates(&mut out, synthetic),
        Of::File(file) => out += &info(&file.info, true),
    }
    if bench.seconds > 0.0 {
        let _ = writeln!(
            out,
            "\nBlocks in memory, over {}; medians, taking turns with memcpy of as many bytes",
            display(bench.data_bytes)
        );
        match &bench.of {
            Of::Synthetic(synthetic) => {
                for rate in &synthetic.rates {
                    speeds(&mut out, &format!("{} bits", rate.asked_bits), &rate.speeds);
                }
            }
            Of::File(file) => groups(&mut out, file),
        }
    }
    out
}

fn rates(out: &mut String, synthetic: &SyntheticBench) {
    let states = match synthetic.states {
        1 => "no trellis".to_owned(),
        states => format!("{states} states"),
    };
    let _ = writeln!(
        out,
        "{} Gaussian weights in {}, {states}; R(D): what no coder can exceed",
        synthetic.weights, synthetic.dtype
    );
    let _ = writeln!(
        out,
        "\n{:>6} {:>8} {:>9} {:>9} {:>8}  {:<8} {:>3} {:>7} {:>12} {:>9}",
        "asked", "bits", "SNR", "R(D)", "gap", "grid", "raw", "zeros", "prime costs", "convert"
    );
    for rate in &synthetic.rates {
        out.push_str(&line(rate));
    }
}

fn line(rate: &Rate) -> String {
    let db = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$} dB"));
    format!(
        "{:>6} {:>8.4} {:>9} {:>9} {:>8}  {:<8} {:>3} {:>5.1} % {:>12} {:>7.2} s\n",
        rate.asked_bits,
        rate.bits_per_weight,
        rate.snr_db.map_or("exact".to_owned(), |snr| format!("{snr:.2} dB")),
        db(Some(rate.bound_db), 2),
        db(rate.gap_db, 2),
        rate.grid.unwrap_or("-"),
        rate.raw_bits,
        100.0 * rate.sparsity,
        db(rate.prime_cost_db, 3),
        rate.convert_seconds,
    )
}

fn groups(out: &mut String, file: &FileBench) {
    for group in &file.groups {
        let title = format!("{}: {} arrays, {}", group.form, group.arrays, display(group.bytes));
        speeds(out, &title, &group.speeds);
    }
}

fn speeds(out: &mut String, title: &str, speeds: &[Speed]) {
    let _ = writeln!(
        out,
        "\n{title}\n  {:<8} {:<9} {:>7} {:>12} {:>8} {:>8} {:>7}",
        "", "", "threads", "M weights/s", "GB/s", "memcpy", "ratio"
    );
    for speed in speeds {
        let direction = match speed.direction {
            Direction::Encode => "encode",
            Direction::Decode => "decode",
        };
        let _ = writeln!(
            out,
            "  {direction:<8} {:<9} {:>7} {:>12.1} {:>8.3} {:>8.2} {:>7.4}",
            speed.isa,
            speed.threads,
            speed.weights_per_second / 1e6,
            speed.gb_per_second,
            speed.memcpy_gb_per_second,
            speed.ratio,
        );
    }
}
