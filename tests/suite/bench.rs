//! `upg bench`: the figures that it prints agree with each other and with the files.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use upg::codec::isa::Isa;
use upg::ops::convert::{Keep, Target};

use crate::support::{Random, options, run, safetensors, write};

/// A millisecond for each measurement, over as little as makes several turns.
fn bench(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_upg");
    let quick = ["bench", "--threads", "2", "--data", "4MiB"];
    Command::new(program).args(quick).args(arguments).output().expect("runs")
}

fn json(arguments: &[&str]) -> Value {
    let done = bench(&[arguments, &["--json"]].concat());
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("{field} of {value}"))
}

/// Every instruction set with one thread and two.
fn assert_speeds(speeds: &Value, directions: &[&str], width: f64) {
    let speeds = speeds.as_array().expect("a list");
    for direction in directions {
        let of: Vec<_> = speeds.iter().filter(|speed| speed["direction"] == *direction).collect();
        let settings: Vec<_> = of.iter().map(|s| (s["isa"].as_str().unwrap_or(""), number(s, "threads"))).collect();
        let expected: Vec<_> =
            Isa::available().iter().flat_map(|isa| [1.0, 2.0].map(|threads| (isa.name(), threads))).collect();
        assert_eq!(settings, expected);
        for speed in of {
            let (rate, copy) = (number(speed, "gb_per_second"), number(speed, "memcpy_gb_per_second"));
            assert!(rate > 0.0 && copy > 0.0 && number(speed, "turns") >= 5.0);
            assert!((number(speed, "ratio") / (rate / copy) - 1.0).abs() < 1e-9);
            assert!((number(speed, "weights_per_second") * width / 1e9 / rate - 1.0).abs() < 1e-9);
        }
    }
    assert_eq!(speeds.len(), 2 * directions.len() * Isa::available().len());
}

#[test]
fn rates_noise_and_speeds_of_gaussian_weights_are_consistent() {
    let weights = 262_144.0;
    for (dtype, width, effort) in [("BF16", 2.0, "8"), ("F32", 4.0, "1")] {
        let more = ["--bits", "2,3.2", "--weights", "262144", "--seconds", "0.001"];
        let got = json(&[&["--synthetic", "--dtype", dtype, "--effort", effort][..], &more].concat());
        let synthetic = &got["synthetic"];
        assert_eq!(synthetic["dtype"], dtype);
        assert_eq!(number(synthetic, "weights"), weights);
        let rates = synthetic["rates"].as_array().expect("a list");
        assert_eq!(rates.iter().map(|rate| number(rate, "asked_bits")).collect::<Vec<_>>(), [2.0, 3.2]);
        for rate in rates {
            let (bits, snr, bound) =
                (number(rate, "bits_per_weight"), number(rate, "snr_db"), number(rate, "bound_db"));
            assert!((8.0 * number(rate, "file_bytes") / weights - bits).abs() < 1e-9);
            assert!((bits / number(rate, "asked_bits") - 1.0).abs() < 0.01, "{rate}");
            assert!((20.0 * 2f64.log10() * bits - bound).abs() < 1e-9);
            assert!((bound - snr - number(rate, "gap_db")).abs() < 1e-9);
            // Scalar quantisation loses 1.53 dB at most, and the tables of so few weights a little.
            assert!((0.3..2.0).contains(&number(rate, "gap_db")), "{rate}");
            assert_eq!(rate["states"].to_string(), effort);
            let grid = rate["grid"].as_str().expect("a grid");
            assert_eq!(rate[grid]["snr_db"], rate["snr_db"]);
            let difference = number(&rate["uniform"], "snr_db") - number(&rate["prime"], "snr_db");
            assert!((number(rate, "prime_cost_db") - difference).abs() < 0.2, "{rate}");
            assert_speeds(&rate["speeds"], &["encode", "decode"], width);
        }
    }
}

#[test]
fn the_prime_grid_is_not_compared_where_it_does_not_reach() {
    let got = json(&["--seconds", "0", "--bits", "6", "--weights", "65536", "--dtype", "F32"]);
    let rate = &got["synthetic"]["rates"][0];
    assert!(rate["prime"].is_null() && rate["prime_cost_db"].is_null(), "{rate}");
    assert_eq!(rate["grid"], "uniform");
    assert_eq!(rate["speeds"].as_array().map(Vec::len), Some(0));
}

#[test]
fn the_blocks_of_a_file_are_measured_by_form() {
    let directory = tempfile::tempdir().expect("a directory");
    let weights =
        |name: &str, n: usize| (name.to_owned(), "BF16", vec![n / 512, 512], Random(n as u64).weights("BF16", n));
    let shard = safetensors(&[weights("lossy", 1 << 16), weights("kept", 1 << 15)]);
    write(directory.path(), "m/model.safetensors", &shard);
    let output = directory.path().join("m.upg");
    let mut options = options(&directory.path().join("m"), &output, Target::Bits(3.2));
    options.keep = Keep::new(vec![globset::Glob::new("kept").expect("a glob")]).expect("globs");
    run(&options);
    let path = output.to_str().expect("UTF-8");
    let got = json(&[path, "--seconds", "0.001"]);
    assert_eq!(number(&got["file"]["info"], "file_bytes"), fs::metadata(&output).expect("it").len() as f64);
    let groups = got["file"]["groups"].as_array().expect("a list");
    let forms: Vec<_> = groups.iter().map(|group| group["form"].as_str().expect("a form")).collect();
    assert_eq!(forms, ["lossless BF16", "prime-sparse BF16, 8 states"]);
    assert_eq!([number(&groups[0], "bytes"), number(&groups[1], "bytes")], [65536.0, 131072.0]);
    for group in groups {
        assert_speeds(&group["speeds"], &["decode"], 2.0);
    }
}

#[test]
fn failures_have_the_exit_codes_of_the_other_commands() {
    let missing = bench(&["/nowhere/model.upg"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&missing.stderr).lines().count(), 1);
    for wrong in [&["--bits", "0.5"][..], &["model.upg", "--synthetic"], &["model.upg", "--bits", "3"], &["--what"]] {
        assert_eq!(bench(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
