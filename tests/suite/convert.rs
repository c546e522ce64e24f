//! Conversion: rates are met, what must be exact is, and nothing half-done
//! appears.

use std::fs;

use globset::Glob;
use upg::archive::Archive;
use upg::format::Codec;
use upg::ops::convert::{Keep, Report, Target};

use crate::support::{Random, Tensor, options, run, safetensors, try_run, unpack, write};

fn gaussian(dtype: &'static str, rows: usize, columns: usize) -> Tensor {
    ("w".into(), dtype, vec![rows, columns], Random(5).weights(dtype, rows * columns))
}

pub fn convert_one(tensors: &[Tensor], target: Target) -> (Report, Vec<(String, Vec<u8>)>) {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "m/model.safetensors", &safetensors(tensors));
    let output = directory.path().join("m.upg");
    let report = run(&options(&directory.path().join("m"), &output, target));
    (report, unpack(&Archive::open(&output).expect("opens")))
}

#[test]
fn the_rate_is_met_within_its_tolerance() {
    for dtype in ["BF16", "F16", "F32"] {
        let tensors = [gaussian(dtype, 1024, 1031)];
        for (bits, least) in [(1.6, 8.8), (2.5, 14.2), (3.2, 18.4), (4.0, 23.2), (6.0, 35.0), (8.0, 46.3)] {
            let (report, _) = convert_one(&tensors, Target::Bits(bits));
            let tensor = &report.tensors[0];
            let off = tensor.bits_per_weight / bits - 1.0;
            assert!((-0.01..=0.003).contains(&off), "{dtype} at {bits}: {:.4}", tensor.bits_per_weight);
            let snr = tensor.snr_db.expect("lossy");
            assert!(snr >= least, "{dtype} at {bits} bits: {snr:.2} dB");
        }
    }
}

#[test]
fn centroids_are_stored_where_they_pay() {
    // At low rates the weights that a level stands for lie aside of it.
    let mut random = Random(11);
    let mut weight = || {
        let uniform = (random.next() as f32 + 0.5) / (1u64 << 40) as f32 - 0.5;
        half::bf16::from_f32(-0.02 * uniform.signum() * (1.0 - 2.0 * uniform.abs()).ln())
    };
    let laplacian = (0..1 << 20).flat_map(|_| weight().to_le_bytes()).collect();

    for (bytes, bits, expected) in [(laplacian, 0.9, true), (Random(5).weights("BF16", 1 << 20), 1.6, false)] {
        let directory = tempfile::tempdir().expect("a directory");
        let tensor = ("w".into(), "BF16", vec![1024, 1024], bytes);
        write(directory.path(), "m/model.safetensors", &safetensors(&[tensor]));
        let output = directory.path().join("m.upg");
        let report = run(&options(&directory.path().join("m"), &output, Target::Bits(bits)));
        assert!((report.tensors[0].bits_per_weight / bits - 1.0).abs() < 0.01);
        let archive = Archive::open(&output).expect("opens");
        let has_centroids = archive.index().arrays.iter().any(|array| match &array.codec {
            Codec::Symbols(params) => params.prime_sparse().is_some_and(|p| p.centroids),
            _ => false,
        });
        assert_eq!(has_centroids, expected, "SNR {:?}", report.tensors[0].snr_db);
    }
}

#[test]
fn the_reported_snr_is_that_of_the_decoded_bytes() {
    let tensors =
        [gaussian("BF16", 700, 301), ("b".into(), "F32", vec![400, 301], Random(6).weights("F32", 400 * 301))];
    let (report, files) = convert_one(&tensors, Target::Bits(3.2));
    let served = &files[0].1;
    let data = served.len() - tensors.iter().map(|t| t.3.len()).sum::<usize>();
    let mut at = data;
    for (tensor, reported) in tensors.iter().zip(&report.tensors) {
        let decoded = &served[at..at + tensor.3.len()];
        at += tensor.3.len();
        let values = |bytes: &[u8]| -> Vec<f64> {
            match tensor.1 {
                "BF16" => bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f64()).collect(),
                _ => bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            }
        };
        let (source, decoded) = (values(&tensor.3), values(decoded));
        let signal: f64 = source.iter().map(|w| w * w).sum();
        let noise: f64 = source.iter().zip(&decoded).map(|(w, d)| (w - d).powi(2)).sum();
        let snr = 10.0 * (signal / noise).log10();
        assert!((snr - reported.snr_db.expect("lossy")).abs() < 1e-6);
        let zeros = decoded.iter().filter(|&&w| w == 0.0).count() as f64 / decoded.len() as f64;
        assert!((zeros - reported.sparsity).abs() < 1e-12);
    }
}

#[test]
fn what_is_not_a_matrix_or_is_kept_is_exact() {
    let mut random = Random(8);
    let tensors: Vec<Tensor> = vec![
        ("keep.weight".into(), "BF16", vec![100, 100], random.weights("BF16", 10_000)),
        ("norm".into(), "F32", vec![5000], random.weights("F32", 5000)),
        ("ids".into(), "I64", vec![100, 100], random.bytes(80_000)),
        ("zeros".into(), "BF16", vec![100, 100], vec![0; 20_000]),
        ("nan".into(), "F16", vec![100, 100], vec![0xFF; 20_000]),
        ("loose.weight".into(), "BF16", vec![100, 100], random.weights("BF16", 10_000)),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let shard = safetensors(&tensors);
    write(directory.path(), "m/model.safetensors", &shard);
    let output = directory.path().join("m.upg");
    let mut options = options(&directory.path().join("m"), &output, Target::Bits(3.2));
    options.keep = Keep::new(vec![Glob::new("keep.*").expect("a glob")]).expect("globs");
    let report = run(&options);
    let served = &unpack(&Archive::open(&output).expect("opens"))[0].1;
    let exact = shard.len() - 20_000;
    assert!(served[..exact] == shard[..exact]);
    assert!(served[exact..] != shard[exact..]);
    let lossy: Vec<_> = report.tensors.iter().filter(|t| t.snr_db.is_some()).map(|t| t.name.as_str()).collect();
    assert_eq!(lossy, ["loose.weight"]);
}

#[test]
fn the_ratio_is_met() {
    let tensors = [gaussian("BF16", 1024, 1031), ("exact".into(), "I32", vec![50_000], Random(4).bytes(200_000))];
    let (report, _) = convert_one(&tensors, Target::Ratio(4.0));
    assert!((report.ratio_source / 4.0 - 1.0).abs() < 0.01, "{}", report.ratio_source);
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "m/model.safetensors", &safetensors(&tensors));
    let out = directory.path().join("m.upg");
    let error = try_run(&options(&directory.path().join("m"), &out, Target::Ratio(100.0))).expect_err("impossible");
    assert!(error.to_string().contains("bits per weight"), "{error}");
    assert!(!out.exists());
}

#[test]
fn the_file_does_not_depend_on_the_number_of_threads() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("m");
    let tensors =
        [gaussian("BF16", 3000, 1000), ("v".into(), "F32", vec![1000, 1000], Random(3).weights("F32", 1_000_000))];
    write(&source, "model.safetensors", &safetensors(&tensors));
    let file = |threads: usize, memory: u64| {
        let output = directory.path().join(format!("{threads}-{memory}.upg"));
        let mut options = options(&source, &output, Target::Bits(3.2));
        (options.threads, options.memory) = (threads, memory);
        run(&options);
        fs::read(output).expect("a file")
    };
    let one = file(1, 128 << 20);
    assert!(one == file(3, 1 << 30));
}

#[test]
fn a_bad_source_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("m");
    let good = safetensors(&[gaussian("BF16", 100, 100)]);
    write(&source, "a.safetensors", &good);
    write(&source, "b.safetensors", &good[..good.len() - 1]);
    for output in ["m.upg", "m-upg"] {
        let error =
            try_run(&options(&source, &directory.path().join(output), Target::Bits(3.2))).expect_err("truncated");
        assert!(error.to_string().contains("b.safetensors"), "{error}");
    }
    fs::remove_file(source.join("b.safetensors")).expect("removes");
    let existing = directory.path().join("there.upg");
    fs::write(&existing, b"precious").expect("writes");
    assert!(try_run(&options(&source, &existing, Target::Bits(3.2))).is_err());
    assert_eq!(fs::read(&existing).expect("still there"), b"precious");
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).expect("lists").map(|e| e.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["m", "there.upg"]);
}

#[test]
fn a_directory_gets_everything_that_belongs_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("tiny");
    write(&source, "model.safetensors", &safetensors(&[gaussian("BF16", 100, 100)]));
    write(&source, "config.json", b"{\"x\": 1}");
    write(&source, "sub/notes.txt", b"notes");
    write(&source, ".git/HEAD", b"hidden");
    let output = directory.path().join("out");
    for force in [false, true] {
        let mut options = options(&source, &output, Target::Bits(3.2));
        options.force = force;
        run(&options);
        for (path, text) in [("config.json", "{\"x\": 1}"), ("sub/notes.txt", "notes")] {
            assert_eq!(fs::read_to_string(output.join(path)).expect("a copy"), text);
        }
        assert!(!output.join(".git").exists() && !output.join("model.safetensors").exists());
        let catalog = fs::read_to_string(output.join("tiny-catalog.json")).expect("a catalog");
        let catalog: serde_json::Value = serde_json::from_str(&catalog).expect("JSON");
        assert_eq!(catalog["parameters"], 10_000);
        let metadata = fs::read_to_string(output.join("upg-metadata.json")).expect("a report");
        let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
        let size = fs::metadata(output.join("tiny.upg")).expect("the archive").len();
        assert_eq!(metadata["file_bytes"], size);
        let archive = Archive::open(&output.join("tiny.upg")).expect("opens");
        let paths: Vec<_> = unpack(&archive).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["config.json", "model.safetensors", "sub/notes.txt"]);
    }
}

#[test]
fn what_lies_in_the_source_never_replaces_the_result() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("tiny");
    write(&source, "model.safetensors", &safetensors(&[gaussian("BF16", 100, 100)]));
    write(&source, "tiny.upg", b"an older conversion");
    write(&source, "upg-metadata.json", b"its report");
    let output = directory.path().join("out");
    let report = run(&options(&source, &output, Target::Bits(3.2)));
    assert_eq!(report.left_out, [("tiny.upg".to_owned(), 19)]);
    let archive = Archive::open(&output.join("tiny.upg")).expect("the new archive");
    let metadata = fs::read_to_string(output.join("upg-metadata.json")).expect("a report");
    assert!(metadata.contains("\"file_bytes\""));
    let presented = unpack(&archive).into_iter().find(|(path, _)| path == "upg-metadata.json");
    assert_eq!(presented.expect("the source's file").1, b"its report");
}
