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
