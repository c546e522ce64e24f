//! The rows of a tensor that stand for all of it while its quantiser is designed.

use crate::codec::layout::BlockShape;

/// Weights that are enough for a first look.
const PART: usize = 1 << 17;

/// Rows of a tensor, to be looked at in place of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Rows of `row_len` values; only the last may be short.
    pub values: Vec<f32>,
    pub row_len: usize,
    pub lanes: usize,
    /// As those of [`super::Search`].
    pub row_scales: Vec<f32>,
    pub column_scales: Vec<f32>,
    pub row_classes: Vec<u8>,
    pub classes: usize,
    /// Bits of an escape: its place and its element.
    pub escape_bits: f64,
}

impl Sample {
    pub(super) fn shape(&self) -> BlockShape {
        BlockShape { elements: self.values.len(), row_len: self.row_len, lanes: self.lanes }
    }

    /// A part of its rows, evenly spread; none of a small sample.
    pub(super) fn part(&self) -> Option<Sample> {
        let every = self.values.len() / PART;
        fn pick<T: Copy>(all: &[T], every: usize) -> Vec<T> {
            all.iter().step_by(every).copied().collect()
        }
        (every > 1).then(|| Sample {
            values: self.values.chunks_exact(self.row_len).step_by(every).collect::<Vec<_>>().concat(),
            row_scales: pick(&self.row_scales, every),
            row_classes: pick(&self.row_classes, every),
            ..self.clone()
        })
    }

    /// Root mean square of the sample's finite values with row and column steps divided
    /// out, wild ones left out; None if all are zero.
    pub(super) fn spread(&self) -> Option<f64> {
        let mut magnitudes: Vec<f32> = Vec::with_capacity(self.values.len());
        for (row, values) in self.values.chunks(self.row_len).enumerate() {
            let scale = self.scale_of_row(row);
            let scaled =
                values.iter().enumerate().map(|(column, value)| (value * scale * self.scale_of_column(column)).abs());
            magnitudes.extend(scaled.filter(|m| m.is_finite()));
        }
        let keep = magnitudes.len() - magnitudes.len() / 1000;
        if keep == 0 {
            return None;
        }
        magnitudes.select_nth_unstable_by(keep - 1, f32::total_cmp);
        let sum: f64 = magnitudes[..keep].iter().map(|&m| f64::from(m) * f64::from(m)).sum();
        Some((sum / keep as f64).sqrt()).filter(|&spread| spread > 0.0 && spread.is_finite())
    }

    /// 1 over what row and column steps multiply this value by.
    #[inline]
    pub(super) fn scale_of_row(&self, row: usize) -> f32 {
        self.row_scales.get(row).copied().unwrap_or(1.0)
    }

    #[inline]
    pub(super) fn scale_of_column(&self, column: usize) -> f32 {
        self.column_scales.get(column).copied().unwrap_or(1.0)
    }
}
