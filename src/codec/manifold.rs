//! Stage 3, manifold encoding: similar values share a group, the groups are
//! numbered by an index, and the index points into a grid of integers.
//!
//! A *group* is the set of weights that decode to one value. Group `j` lies at
//! the integer `G(j)`: on the uniform grid `G(j) = j`, on the prime grid the
//! prime nearest to `6 j` (every prime above 3 is next to a multiple of six, so
//! the grid stays almost uniform). The indices are entropy-coded; see
//! [`crate::codec::entropy`]. `docs/format.md`, section 9, is normative.

use alloc::vec;
use alloc::vec::Vec;

/// Which integers the groups lie at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    Uniform,
    Prime,
}

/// Half of the alphabet: symbol `s` stands for the index `s - 32`.
pub const CENTRE: i32 = 32;
/// The same with a trellis, whose two quantisers share the alphabet.
pub const TRELLIS_CENTRE: i32 = 16;

/// Multiples of a step that one byte can stand for: eight to an octave.
const EIGHTH_OCTAVES: [u32; 8] =
    [0x3F80_0000, 0x3F8B_95C2, 0x3F98_37F0, 0x3FA5_FED7, 0x3FB5_04F3, 0x3FC5_672A, 0x3FD7_44FD, 0x3FEA_C0C7];

/// The factor that a row's or column's step byte stands for; 128 is 1.
pub fn step_factor(byte: u8) -> f32 {
    let octave = f32::from_bits((u32::from(byte >> 3) + 127 - 16) << 23);
    f32::from_bits(EIGHTH_OCTAVES[usize::from(byte & 7)]) * octave
}

/// `p(0) = 0` and, for j up to `max`, p(j): the prime nearest to 6 j above
/// p(j - 1), the smaller of two equally near ones.
pub fn primes_near_multiples_of_six(max: usize) -> Vec<u32> {
    let mut primes = vec![0];
    for j in 1..=max {
        let target = 6 * j as u32;
        let floor = primes[j - 1];
        let above = (target.max(floor + 1)..).find(|&n| is_prime(n)).unwrap_or(target);
        let below = (floor + 1..target).rev().take_while(|&n| target - n <= above - target);
        primes.push(below.into_iter().find(|&n| is_prime(n)).unwrap_or(above));
    }
    primes
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

impl Grid {
    /// Distance between neighbouring groups, in units of the integer grid.
    pub fn spacing(self) -> f32 {
        match self {
            Grid::Uniform => 1.0,
            Grid::Prime => 6.0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Grid::Uniform => "uniform",
            Grid::Prime => "prime",
        }
    }
}

/// The integers of a grid, for levels of either sign.
#[derive(Debug, Clone)]
pub struct Levels {
    primes: Option<Vec<u32>>,
}

impl Levels {
    /// For levels from `-max` to `max`.
    pub fn new(grid: Grid, max: usize) -> Levels {
        Levels { primes: (grid == Grid::Prime).then(|| primes_near_multiples_of_six(max)) }
    }

    /// G(level), exact in f32.
    #[inline]
    pub fn number(&self, level: i32) -> f32 {
        match &self.primes {
            None => level as f32,
            Some(primes) => {
                let p = primes[level.unsigned_abs() as usize] as f32;
                if level < 0 { -p } else { p }
            }
        }
    }
}

/// The level of index `k` under quantiser `q` of a trellis.
#[inline]
pub fn trellis_level(q: usize, k: i32) -> i32 {
    if q == 0 { 2 * k } else { 2 * k - k.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prime_grid_begins_as_the_format_says() {
        let p = primes_near_multiples_of_six(30);
        assert_eq!(p[..12], [0, 5, 11, 17, 23, 29, 37, 41, 47, 53, 59, 67]);
        assert_eq!(p[19..24], [113, 127, 131, 137, 139]);
        assert!(p.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn step_factors_are_eighths_of_octaves() {
        assert_eq!(step_factor(128), 1.0);
        assert_eq!(step_factor(136), 2.0);
        assert_eq!(step_factor(0), 2f32.powi(-16));
        for b in 0..=255u8 {
            let exact = 2f64.powf((f64::from(b) - 128.0) / 8.0);
            assert!((f64::from(step_factor(b)) / exact - 1.0).abs() < 1e-7);
        }
    }
}
