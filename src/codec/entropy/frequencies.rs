//! Frequencies of the table entries: counts become 16-bit probabilities.

use crate::codec::params::ENTRIES;
use crate::error::Defect;

/// The frequencies of one table class; contexts sum to 65536 each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frequencies(pub [u16; ENTRIES]);

/// What every context of a class sums to.
pub const TOTAL: u32 = 1 << 16;

/// The least frequency of an entry that occurs: the encoder's reciprocals need 2.
#[cfg(feature = "std")]
const LEAST: u32 = 2;

impl Frequencies {
    /// Checks the sums. `contexts` is 1, or 2 with a trellis.
    pub fn validate(self, contexts: usize) -> Result<Frequencies, Defect> {
        for context in self.0.chunks_exact(ENTRIES / contexts) {
            if context.iter().map(|&f| u32::from(f)).sum::<u32>() != TOTAL {
                return Err(Defect("frequencies do not sum to 65536"));
            }
        }
        Ok(self)
    }
}

#[cfg(feature = "std")]
impl Frequencies {
    /// The frequencies nearest to `counts` in Kullback-Leibler divergence, up to
    /// rounding: every entry that occurs gets at least 2.
    pub fn from_counts(counts: &[u64; ENTRIES], contexts: usize) -> Frequencies {
        let mut frequencies = [0; ENTRIES];
        let len = ENTRIES / contexts;
        for (f, c) in frequencies.chunks_exact_mut(len).zip(counts.chunks_exact(len)) {
            normalise(c, f);
        }
        Frequencies(frequencies)
    }

    /// Bits that an occurrence of each entry costs; infinite where it cannot occur.
    pub fn costs(&self) -> [f64; ENTRIES] {
        self.0.map(|f| f64::from(TOTAL).log2() - f64::from(f).log2())
    }
}

#[cfg(feature = "std")]
fn normalise(counts: &[u64], out: &mut [u16]) {
    let mut counts = counts.to_vec();
    // A single entry cannot have all 65536, so there are always two.
    for i in 0..counts.len() {
        if counts.iter().filter(|&&c| c > 0).count() >= 2 {
            break;
        }
        counts[i] = counts[i].max(1);
    }
    let total: u128 = counts.iter().map(|&c| u128::from(c)).sum();
    let most = TOTAL - LEAST;
    let scaled = |c: u64| ((u128::from(c) * u128::from(TOTAL) + total / 2) / total) as u32;
    let mut f: Vec<u32> = counts.iter().map(|&c| if c == 0 { 0 } else { scaled(c).clamp(LEAST, most) }).collect();
    let mut excess = i64::from(f.iter().sum::<u32>()) - i64::from(TOTAL);
    while excess != 0 {
        // Change the entry where a unit more or less costs the fewest bits.
        let unit: i64 = if excess > 0 { -1 } else { 1 };
        let price = |i: usize| counts[i] as f64 * (f64::from(f[i]).ln() - (f64::from(f[i]) + unit as f64).ln());
        let best = (0..f.len())
            .filter(|&i| counts[i] > 0 && (unit > 0 || f[i] > LEAST))
            .min_by(|&a, &b| price(a).total_cmp(&price(b)));
        let Some(best) = best else { break };
        f[best] = f[best].wrapping_add_signed(unit as i32);
        excess += unit;
    }
    for (out, f) in out.iter_mut().zip(f) {
        *out = f as u16;
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_hold_and_what_occurs_can_be_coded(
            counts in proptest::collection::vec(prop_oneof![Just(0u64), 0..5u64, 0..u64::MAX >> 8], ENTRIES),
            contexts in 1..=2usize,
        ) {
            let counts: [u64; ENTRIES] = counts.try_into().expect("64 counts");
            let f = Frequencies::from_counts(&counts, contexts);
            prop_assert!(f.clone().validate(contexts).is_ok());
            for (count, f) in counts.iter().zip(f.0) {
                prop_assert!(*count == 0 || f >= 2);
                prop_assert!(f != 1);
            }
        }
    }
}
