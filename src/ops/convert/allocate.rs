//! How many bits per weight each matrix gets, without data.
//!
//! At R bits the noise of a matrix relative to itself is near c 4^-R, whatever the
//! matrix, and reaches the logits in proportion to what the matrix contributes to
//! them. The sum over all matrices of *weight of the matrix* times *relative noise*
//! is the proxy of the output's error; at a fixed total of bits it is least where
//!
//! ```text
//! R = constant + 1/2 log2(weight / elements)
//! ```
//!
//! (reverse water-filling over the tensors; Cover and Thomas, Elements of Information
//! Theory, 10.3). The head produces the logits themselves: weight 1. The stream that it
//! reads is a sum of one embedding and two branches per layer, each of which is taken to
//! contribute alike; but the noise of the embedding goes through all layers, that of a
//! branch through half of them on average, so the embedding counts twice. Of the stream's
//! weight of 1 it has 1 / (layers + 1), and the branches the rest, which their matrices
//! share by size.

use super::roles::Role;

/// Bits that no allocation goes below, or above; and how far from the average.
const LEAST: f64 = 1.25;
const MOST: f64 = 8.0;
const FARTHEST_BELOW: f64 = 1.0;
const FARTHEST_ABOVE: f64 = 2.0;

/// A matrix that is to be stored lossily.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub role: Role,
    pub elements: u64,
}

/// Bits per weight of each, for a total of `bits` per weight over all of them, in a
/// model of so many layers.
pub fn allocate(matrices: &[Matrix], layers: usize, bits: f64, flat: bool) -> Vec<f64> {
    let all: u64 = matrices.iter().map(|matrix| matrix.elements).sum();
    if flat || all == 0 {
        return vec![bits; matrices.len()];
    }
    let linears = matrices.iter().filter(|matrix| matrix.role == Role::Linear);
    let linear_elements: u64 = linears.map(|matrix| matrix.elements).sum();
    let embedding = 1.0 / (layers.max(1) + 1) as f64;
    let wanted: Vec<f64> = matrices
        .iter()
        .map(|matrix| {
            let (weight, elements) = match matrix.role {
                Role::Head => (1.0, matrix.elements),
                Role::Embedding => (embedding, matrix.elements),
                // In proportion to their sizes: the same bits for all.
                Role::Linear => (1.0 - embedding, linear_elements),
            };
            0.5 * (weight / elements as f64).log2()
        })
        .collect();
    let (low, high) = ((bits - FARTHEST_BELOW).max(LEAST).min(bits), (bits + FARTHEST_ABOVE).min(MOST).max(bits));
    let at = |level: f64| wanted.iter().map(move |w| (w + level).clamp(low, high));
    // The total grows with the level: find where it is met.
    let (mut lower, mut upper) = (-64.0, 64.0);
    for _ in 0..60 {
        let level = (lower + upper) / 2.0;
        let total: f64 = at(level).zip(matrices).map(|(r, matrix)| r * matrix.elements as f64).sum();
        if total > bits * all as f64 { upper = level } else { lower = level }
    }
    at(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phi4() -> Vec<Matrix> {
        let matrix = |role, elements| Matrix { role, elements };
        let mut all = vec![matrix(Role::Embedding, 513_802_240), matrix(Role::Head, 513_802_240)];
        all.extend((0..160).map(|i| matrix(Role::Linear, [39_321_600, 26_214_400, 183_500_800, 91_750_400][i % 4])));
        all
    }

    #[test]
    fn the_total_is_what_was_asked_for_and_the_head_gets_most() {
        for bits in [1.3, 1.6, 3.2, 4.0, 8.0, 12.0] {
            for flat in [false, true] {
                let matrices = phi4();
                let got = allocate(&matrices, 40, bits, flat);
                let all: u64 = matrices.iter().map(|m| m.elements).sum();
                let total: f64 = got.iter().zip(&matrices).map(|(r, m)| r * m.elements as f64).sum();
                assert!((total / all as f64 - bits).abs() < 1e-6, "{bits}: {}", total / all as f64);
                assert!(got[0] <= got[2] && got[2] <= got[1]);
                assert!(got[2..].windows(2).all(|pair| pair[0] == pair[1]));
                assert!(!flat || got[0] == bits);
            }
        }
    }

    #[test]
    fn a_single_matrix_gets_it_all() {
        let matrices = [Matrix { role: Role::Head, elements: 100 }];
        assert!((allocate(&matrices, 0, 3.2, false)[0] - 3.2).abs() < 1e-9);
    }
}
