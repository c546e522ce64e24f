//! Division of 32-bit numbers by 16-bit ones, in 16-bit arithmetic: Moeller and Granlund,
//! IEEE Trans. Computers 60(2), 2011, algorithm 4.

use std::arch::x86_64::*;

/// Whether `a >= b`, both without sign.
#[inline]
#[target_feature(enable = "avx2")]
pub fn at_least(a: __m256i, b: __m256i) -> __m256i {
    _mm256_cmpeq_epi16(_mm256_max_epu16(a, b), a)
}

/// Quotient and remainder of the numbers of halves `high` and `low` by `frequency`,
/// which `high` is below. `power` times the frequency has its uppermost bit set.
#[inline]
#[target_feature(enable = "avx2")]
pub fn divide(
    high: __m256i,
    low: __m256i,
    frequency: __m256i,
    power: __m256i,
    reciprocal: __m256i,
) -> (__m256i, __m256i) {
    let one = _mm256_set1_epi16(1);
    let divisor = _mm256_mullo_epi16(frequency, power);
    // With a power of 1 nothing comes up from below, as it should.
    let high = _mm256_or_si256(_mm256_mullo_epi16(high, power), _mm256_mulhi_epu16(low, power));
    let shifted = _mm256_mullo_epi16(low, power);
    let fraction = _mm256_add_epi16(_mm256_mullo_epi16(reciprocal, high), shifted);
    // Masks are 0 or -1. A carry adds one, so does what follows: 2 less one without.
    let no_carry = at_least(fraction, shifted);
    let quotient = _mm256_add_epi16(_mm256_mulhi_epu16(reciprocal, high), high);
    let quotient = _mm256_add_epi16(quotient, _mm256_add_epi16(no_carry, _mm256_set1_epi16(2)));
    let rest = _mm256_sub_epi16(shifted, _mm256_mullo_epi16(quotient, divisor));
    let not_above = at_least(fraction, rest);
    let quotient = _mm256_sub_epi16(_mm256_sub_epi16(quotient, one), not_above);
    let rest = _mm256_add_epi16(rest, _mm256_andnot_si256(not_above, divisor));
    let quotient = _mm256_sub_epi16(quotient, at_least(rest, divisor));
    // A product costs less than to shift the rest back.
    (quotient, _mm256_sub_epi16(low, _mm256_mullo_epi16(quotient, frequency)))
}

#[cfg(test)]
mod tests {
    use super::super::{GROUP, is_available, load, store, tables};
    use super::*;
    use crate::codec::isa::both;

    #[target_feature(enable = "avx2")]
    fn quotients(dividends: &[u32; GROUP], frequency: u16) -> [(u16, u16); GROUP] {
        let shift = frequency.leading_zeros();
        let reciprocal = (u32::MAX / u32::from(frequency << shift)) as u16;
        let (high, low) = (load(&dividends.map(|x| (x >> 16) as u16)), load(&dividends.map(|x| x as u16)));
        let all = |word: u16| _mm256_set1_epi16(word as i16);
        let [power, _] = tables::powers(_mm256_set1_epi8(shift as i8));
        let [a, b] = both!(|h| divide(high[h], low[h], all(frequency), power, all(reciprocal)));
        let (mut quotients, mut rests) = ([0; GROUP], [0; GROUP]);
        store(&mut quotients, [a.0, b.0]);
        store(&mut rests, [a.1, b.1]);
        std::array::from_fn(|i| (quotients[i], rests[i]))
    }

    #[test]
    fn quotients_are_exact_for_every_divisor() {
        if !is_available() {
            return;
        }
        for divisor in 2..=u16::MAX {
            let d = u32::from(divisor);
            // Around multiples, at both ends and all over the range.
            let dividends = std::array::from_fn(|i| {
                let multiple = d * (i as u32 * 0x2F39 % 0x10000);
                match i % 4 {
                    0 => multiple,
                    1 => multiple + d - 1,
                    2 => (d << 16).wrapping_sub(1 + i as u32),
                    _ => (i as u32).wrapping_mul(0x9E37_79B9) % (d << 16),
                }
            });
            // SAFETY: the features were detected.
            let found = unsafe { quotients(&dividends, divisor) };
            for (x, (quotient, rest)) in dividends.into_iter().zip(found) {
                assert_eq!((u32::from(quotient), u32::from(rest)), (x / d, x % d), "{x} / {d}");
            }
        }
    }
}
