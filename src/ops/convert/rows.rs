//! How the rows and columns of a matrix differ, and the steps and classes that follow
//! from it, as the bytes that the format has for them.

use crate::codec::manifold::step_factor;

/// Most table classes that rows are sorted into.
const CLASSES: usize = 8;
/// Rate that classes must save beyond what their bytes take, in bits per weight.
const WORTH: f64 = 0.003;
/// How far a row's step follows the row's size: 1 would give all rows the same relative
/// noise, 0 the same noise.
const ROW_EXPONENT: f64 = 1.0;
/// How far a column's step follows the gain that stands before it.
const COLUMN_EXPONENT: f64 = 0.5;
/// Rows that differ less (standard deviation of the binary logarithm) share a step.
const ROWS_DIFFER: f64 = 0.02;
/// Farthest a step is from the average, in eighths of octaves.
const FARTHEST: f64 = 64.0;

/// Root mean square of a row's values, but for what is not finite or more than 16 times
/// their mean magnitude: one wild value says nothing about the others.
pub fn size(values: &[f32]) -> f32 {
    let (sum, _) = sums(values, f32::MAX, f32::abs);
    let most = (16.0 * sum / values.len().max(1) as f64) as f32;
    let (squares, count) = sums(values, most, |v| v * v);
    (squares / f64::from(count.max(1))).sqrt() as f32
}

/// Sum of `term` over the values up to this magnitude, and their number. In 16 sums, for
/// the compiler to use vectors, each of them short enough for f32.
fn sums(values: &[f32], most: f32, term: impl Fn(f32) -> f32) -> (f64, u32) {
    let (mut total, mut total_count) = (0.0, 0);
    for chunk in values.chunks(512) {
        let (mut sum, mut count) = ([0f32; 16], [0u32; 16]);
        for part in chunk.chunks(16) {
            for (i, &value) in part.iter().enumerate() {
                let taken = value.abs() <= most;
                sum[i] += if taken { term(value) } else { 0.0 };
                count[i] += u32::from(taken);
            }
        }
        total += sum.iter().map(|&s| f64::from(s)).sum::<f64>();
        total_count += count.iter().sum::<u32>();
    }
    (total, total_count)
}

/// A step byte per row in proportion to the row's size, if rows differ.
pub fn row_steps(rms: &[f32]) -> Vec<u8> {
    let logs: Vec<Option<f64>> = rms.iter().map(|&v| log2(v)).collect();
    if deviation(&logs) < ROWS_DIFFER { Vec::new() } else { bytes(&logs, ROW_EXPONENT) }
}
/// A step byte per column, the smaller the larger the gain; none if gains are alike.
pub fn column_steps(gains: &[f32]) -> Vec<u8> {
    let logs: Vec<Option<f64>> = gains.iter().map(|&v| log2(v.abs())).collect();
    let bytes = bytes(&logs, -COLUMN_EXPONENT);
    if bytes.iter().all(|&byte| byte == 128) { Vec::new() } else { bytes }
}

/// 1 over the factors that step bytes stand for.
pub fn scales(bytes: &[u8]) -> Vec<f32> {
    bytes.iter().map(|&byte| 1.0 / step_factor(byte)).collect()
}

/// The largest of the factors that these are 1 over.
pub fn largest_factor(scales: &[f32]) -> f64 {
    1.0 / scales.iter().fold(1.0, |least, &scale| f64::from(scale).min(least))
}

/// A table class per row, rows of like size together, and the number of classes; none
/// if it would not pay.
pub fn row_classes(rms: &[f32], row_len: u64) -> (Vec<u8>, usize) {
    let logs: Vec<f64> = rms.iter().map(|&v| log2(v).unwrap_or(-126.0)).collect();
    let mean_square = rms.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / rms.len().max(1) as f64;
    let saved = 0.5 * mean_square.log2() - logs.iter().sum::<f64>() / logs.len().max(1) as f64;
    if !saved.is_finite() || saved < WORTH + 8.0 / row_len as f64 || rms.len() < 2 * CLASSES {
        return (Vec::new(), 1);
    }
    let mut order: Vec<u32> = (0..rms.len() as u32).collect();
    order.sort_by(|&a, &b| logs[a as usize].total_cmp(&logs[b as usize]).then(a.cmp(&b)));
    let mut classes = vec![0; rms.len()];
    for (place, &row) in order.iter().enumerate() {
        classes[row as usize] = (place * CLASSES / rms.len()) as u8;
    }
    (classes, CLASSES)
}

fn log2(value: f32) -> Option<f64> {
    (value > 0.0 && value.is_finite()).then(|| f64::from(value).log2())
}

fn mean(logs: &[Option<f64>]) -> f64 {
    let known = logs.iter().flatten();
    known.clone().sum::<f64>() / known.count().max(1) as f64
}

fn deviation(logs: &[Option<f64>]) -> f64 {
    let (mean, known) = (mean(logs), logs.iter().flatten());
    (known.clone().map(|l| (l - mean).powi(2)).sum::<f64>() / known.count().max(1) as f64).sqrt()
}

/// Step bytes (eighths of octaves) of the factors `2^(exponent (log - mean))`.
fn bytes(logs: &[Option<f64>], exponent: f64) -> Vec<u8> {
    let mean = mean(logs);
    let byte = |log: &Option<f64>| {
        let eighths = log.map_or(0.0, |log| 8.0 * exponent * (log - mean));
        (128.0 + eighths.clamp(-FARTHEST, FARTHEST)).round() as u8
    };
    logs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_row_is_not_that_of_its_wild_values() {
        let mut row: Vec<f32> = (0..1000).map(|i| if i % 2 == 0 { 2.0 } else { -2.0 }).collect();
        assert_eq!(size(&row), 2.0);
        row[7] = 1e30;
        row[9] = f32::NAN;
        row[11] = f32::INFINITY;
        assert_eq!(size(&row), 2.0);
        assert_eq!(size(&[0.0; 40]), 0.0);
        assert_eq!(size(&[]), 0.0);
    }

    #[test]
    fn steps_follow_sizes_and_gains_against_them() {
        assert_eq!(row_steps(&[1.0, 2.0, 4.0, 0.0]), [120, 128, 136, 128]);
        assert!(row_steps(&[1.0; 9]).is_empty());
        assert_eq!(column_steps(&[1.0, 4.0, -16.0]), [136, 128, 120]);
        assert!(column_steps(&[3.0; 9]).is_empty());
        assert_eq!(scales(&[128, 136]), [1.0, 0.5]);
    }

    #[test]
    fn classes_hold_rows_of_like_size() {
        let rms: Vec<f32> = (0..160).map(|i| 1.0 + ((i * 37) % 160) as f32).collect();
        let (classes, count) = row_classes(&rms, 5120);
        assert_eq!(count, CLASSES);
        for (a, class_a) in rms.iter().zip(&classes) {
            for (b, class_b) in rms.iter().zip(&classes) {
                assert!(class_a <= class_b || a >= b);
            }
        }
        assert_eq!(row_classes(&[1.0; 160], 5120), (Vec::new(), 1));
    }
}
