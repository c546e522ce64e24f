//! What a search chose for a sample: how often each entry, and how far from its level.

use super::{Choice, Sample};
use crate::codec::manifold::{TRELLIS_CENTRE, trellis_level};
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, ESCAPE};

/// Fewer weights than that do not say where an entry's centroid is.
const LEAST_FOR_CENTROID: u64 = 64;
/// Farthest that a centroid is from its level, in steps of the level grid.
const FARTHEST_CENTROID: f64 = 1.0;

/// All in steps of the level grid.
pub(super) struct Count {
    /// How often each class's entries occur, and a little everywhere, as the sample is
    /// not all.
    pub counts: Vec<[u64; ENTRIES]>,
    /// Sum of squared errors.
    pub noise: f64,
    /// How far the mean of each entry's weights is from its level, but for zero, which
    /// stays exact.
    pub centroids: [f64; ENTRIES],
    /// What the noise would be if entries stood for these means.
    pub noise_of_centroids: f64,
}

impl Count {
    /// `values`: where each entry lies if there are no raw bits.
    pub fn new(sample: &Sample, choice: &Choice, values: &[f64; ENTRIES], raw_bits: u8, level_step: f64) -> Count {
        let mut is_escape = vec![false; sample.values.len()];
        choice.escapes.iter().for_each(|&at| is_escape[at as usize] = true);
        let mut counts = vec![[0u64; ENTRIES]; sample.classes];
        let (mut noise, mut errors, mut taken) = (0.0, [0f64; ENTRIES], [0u64; ENTRIES]);
        for (row, row_values) in sample.values.chunks(sample.row_len).enumerate() {
            let class = sample.row_classes.get(row).map_or(0, |&class| usize::from(class));
            let counts = &mut counts[class];
            let scale = sample.scale_of_row(row) / level_step as f32;
            let first = row * sample.row_len;
            let mut noise_of_row = 0f64;
            for (column, &value) in row_values.iter().enumerate() {
                let i = first + column;
                let entry = usize::from(choice.entries[i]) % ENTRIES;
                counts[entry] += 1;
                if is_escape[i] {
                    continue;
                }
                let at = match choice.raw.get(i) {
                    None => values[entry],
                    Some(&raw) => {
                        let symbol = (entry % usize::from(CONTEXT_ENTRIES)) as i32 - TRELLIS_CENTRE;
                        f64::from(trellis_level(entry / 32, (symbol << raw_bits) + i32::from(raw)))
                    }
                };
                let error = f64::from(value * scale * sample.scale_of_column(column)) - at;
                noise_of_row += error * error;
                errors[entry] += error;
                taken[entry] += 1;
            }
            noise += noise_of_row;
        }
        counts.iter_mut().for_each(keep_possible);
        let centroids = std::array::from_fn(|entry| {
            let is_zero = entry % usize::from(CONTEXT_ENTRIES) == TRELLIS_CENTRE as usize;
            if raw_bits > 0 || is_zero || taken[entry] < LEAST_FOR_CENTROID {
                return 0.0;
            }
            (errors[entry] / taken[entry] as f64).clamp(-FARTHEST_CENTROID, FARTHEST_CENTROID)
        });
        // sum of (e - c)^2, from the sums of e and e^2.
        let change = |e: usize| centroids[e] * (taken[e] as f64 * centroids[e] - 2.0 * errors[e]);
        let noise_of_centroids = noise + (0..ENTRIES).map(change).sum::<f64>();
        Count { counts, noise, centroids, noise_of_centroids }
    }
}

/// Any symbol but the escape may be chosen in the rest of the tensor.
fn keep_possible(counts: &mut [u64; ENTRIES]) {
    for (entry, count) in counts.iter_mut().enumerate() {
        if entry % usize::from(CONTEXT_ENTRIES) != usize::from(ESCAPE) {
            *count = (*count).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centroids_are_the_means_and_never_make_more_noise() {
        // 100 weights a quarter above level 2 of quantiser 0, 100 at zero's, 10 of level 4.
        let entries = [17u8, 16, 18].map(|entry| (entry, if entry == 18 { 10 } else { 100 }));
        let values: [f64; ENTRIES] = std::array::from_fn(|entry| 2.0 * (entry as f64 % 32.0 - 16.0));
        let choice =
            Choice { entries: entries.iter().flat_map(|&(entry, n)| vec![entry; n]).collect(), ..Default::default() };
        let sample = Sample {
            values: choice.entries.iter().map(|&e| 0.5 * (values[usize::from(e)] as f32 + 0.25)).collect(),
            row_len: choice.entries.len(),
            lanes: 32,
            row_scales: Vec::new(),
            column_scales: Vec::new(),
            row_classes: Vec::new(),
            classes: 1,
            escape_bits: 50.0,
        };
        let count = Count::new(&sample, &choice, &values, 0, 0.5);
        assert_eq!(
            (count.counts[0][17], count.counts[0][16], count.counts[0][18], count.counts[0][40]),
            (100, 100, 10, 1)
        );
        assert_eq!((count.centroids[17], count.centroids[16], count.centroids[18]), (0.25, 0.0, 0.0));
        assert_eq!((count.noise, count.noise_of_centroids), (210.0 / 16.0, 110.0 / 16.0));
    }
}
