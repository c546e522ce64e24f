//! The AVX-512 encoder: 32 lanes in a pair of registers, all tables in registers.
//!
//! A state is held as two planes of 16-bit halves, as in the decoder. Neither of the
//! two things that an encoder looks up for each symbol needs memory: the quotient
//! comes from a normalised reciprocal (Moeller and Granlund, IEEE Trans. Computers
//! 60(2), 2011, algorithm 4) in 16-bit arithmetic, and the slot from a binary search
//! for the segment of the occurrence. A table of all slots would be 128 KiB, read by
//! gathers.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::vector_table::Table;
use super::{Job, SLACK, States};
use crate::error::Defect;

/// Lanes that are coded together.
const GROUP: usize = 32;
fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("popcnt")
}

/// Whether this encoder covers such a block on this machine.
pub fn supports(job: &Job<'_>) -> bool {
    matches!(job.shape.lanes, 32 | 64 | 128 | 256) && is_available()
}

/// Writes the words to the end of `words`, and returns where they start.
pub fn encode(job: &Job<'_>, states: &mut States, words: &mut [u16]) -> Result<usize, Defect> {
    if !supports(job) || words.len() < job.shape.elements + SLACK || job.entries.len() != job.shape.elements {
        return Err(Defect("the AVX-512 encoder does not cover this block"));
    }
    // SAFETY: the features were detected, and the lengths are those that `run` demands.
    unsafe {
        match job.shape.lanes {
            32 => dispatch::<1>(job, states, words),
            64 => dispatch::<2>(job, states, words),
            128 => dispatch::<4>(job, states, words),
            _ => dispatch::<8>(job, states, words),
        }
    }
}

/// # Safety
/// As [`run`].
unsafe fn dispatch<const G: usize>(job: &Job<'_>, states: &mut States, words: &mut [u16]) -> Result<usize, Defect> {
    // SAFETY: the caller's promise is that of `run`.
    unsafe {
        match (job.tables[0].contexts == 2, job.row_classes.is_empty()) {
            (false, true) => run::<G, false, false>(job, states, words),
            (false, false) => run::<G, false, true>(job, states, words),
            (true, true) => run::<G, true, false>(job, states, words),
            (true, false) => run::<G, true, true>(job, states, words),
        }
    }
}

/// A [`Table`] in registers.
#[derive(Clone, Copy)]
struct Registers {
    divisor: [__m512i; 2],
    shift: [__m512i; 2],
    reciprocal: [__m512i; 2],
    start: [__m512i; 2],
    tree: __m512i,
    middle: __m512i,
    odd: [__m512i; 2],
    offset: [__m512i; 4],
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn load<const N: usize, const R: usize>(words: &[u16; N]) -> [__m512i; R] {
    const { assert!(N == GROUP * R) };
    let start = words.as_ptr().cast::<__m512i>();
    // SAFETY: a register holds 32 words and the loads need no alignment.
    std::array::from_fn(|i| unsafe { _mm512_loadu_si512(start.add(i)) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn load_table(table: &Table) -> Registers {
    let [tree] = load(&table.tree);
    let [middle] = load(&table.middle);
    Registers {
        divisor: load(&table.divisor),
        shift: load(&table.shift),
        reciprocal: load(&table.reciprocal),
        start: load(&table.start),
        tree,
        middle,
        odd: load(&table.odd),
        offset: load(&table.offset),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn look_up(table: [__m512i; 2], index: __m512i) -> __m512i {
    _mm512_permutex2var_epi16(table[0], index, table[1])
}

/// `2 index + 1` where `right`, else `2 index`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn descend(index: __m512i, right: __mmask32) -> __m512i {
    let left = _mm512_add_epi16(index, index);
    _mm512_mask_add_epi16(left, right, left, _mm512_set1_epi16(1))
}

/// The slots of occurrences, of context 0 or 1 as bit 5 of the entries says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn slots<const TRELLIS: bool>(table: &Registers, entry: __m512i, occurrence: __m512i) -> __m512i {
    let one = _mm512_set1_epi16(1);
    // The upper half of the segments is that of context 1.
    let right = if TRELLIS {
        _mm512_test_epi16_mask(entry, _mm512_set1_epi16(32))
    } else {
        _mm512_cmpge_epu16_mask(occurrence, _mm512_permutexvar_epi16(one, table.tree))
    };
    let mut index = descend(one, right);
    for _ in 1..5 {
        let first = _mm512_permutexvar_epi16(index, table.tree);
        index = descend(index, _mm512_cmpge_epu16_mask(occurrence, first));
    }
    // Permutations take the index modulo the size of the table: what is above the
    // leaf's number does not matter.
    let first = _mm512_permutexvar_epi16(index, table.middle);
    index = descend(index, _mm512_cmpge_epu16_mask(occurrence, first));
    let first = look_up(table.odd, index);
    index = descend(index, _mm512_cmpge_epu16_mask(occurrence, first));
    let upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16(64));
    let lower_offset = look_up([table.offset[0], table.offset[1]], index);
    let upper_offset = look_up([table.offset[2], table.offset[3]], index);
    _mm512_add_epi16(occurrence, _mm512_mask_mov_epi16(lower_offset, upper, upper_offset))
}

/// Quotient and remainder of the numbers of halves `high` and `low` by
/// `divisor >> shift`, which `high` is below.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn divide(high: __m512i, low: __m512i, divisor: __m512i, shift: __m512i, reciprocal: __m512i) -> (__m512i, __m512i) {
    let one = _mm512_set1_epi16(1);
    let high = _mm512_shldv_epi16(high, low, shift);
    let low = _mm512_sllv_epi16(low, shift);
    let fraction = _mm512_add_epi16(_mm512_mullo_epi16(reciprocal, high), low);
    let carry = _mm512_cmplt_epu16_mask(fraction, low);
    let quotient = _mm512_add_epi16(_mm512_mulhi_epu16(reciprocal, high), _mm512_add_epi16(high, one));
    let quotient = _mm512_mask_add_epi16(quotient, carry, quotient, one);
    let rest = _mm512_sub_epi16(low, _mm512_mullo_epi16(quotient, divisor));
    let above = _mm512_cmpgt_epu16_mask(rest, fraction);
    let quotient = _mm512_mask_sub_epi16(quotient, above, quotient, one);
    let rest = _mm512_mask_add_epi16(rest, above, rest, divisor);
    let below = _mm512_cmpge_epu16_mask(rest, divisor);
    let quotient = _mm512_mask_add_epi16(quotient, below, quotient, one);
    let rest = _mm512_mask_sub_epi16(rest, below, rest, divisor);
    (quotient, _mm512_srlv_epi16(rest, shift))
}

/// `ROWS`: tables differ between rows and are loaded for each step.
///
/// # Safety
/// The machine has the features, the job's lanes are 32 `G`, it has an entry per
/// element, and `words` has at least [`SLACK`] words more than elements.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
unsafe fn run<const G: usize, const TRELLIS: bool, const ROWS: bool>(
    job: &Job<'_>,
    states: &mut States,
    words: &mut [u16],
) -> Result<usize, Defect> {
    let zero = _mm512_setzero_si512();
    let numbers: [u16; GROUP] = std::array::from_fn(|lane| lane as u16);
    let [lane] = load(&numbers);
    let (mut high, mut low) = ([zero; G], [zero; G]);
    for g in 0..G {
        // SAFETY: the halves have room for 256 lanes, which is 32 G at most.
        unsafe {
            high[g] = _mm512_loadu_si512(states.high.as_ptr().add(GROUP * g).cast());
            low[g] = _mm512_loadu_si512(states.low.as_ptr().add(GROUP * g).cast());
        }
    }
    let mut at = words.len();
    let mut lost = 0;
    let mut table = load_table(&job.tables[0].vector);

    for step in job.shape.steps().rev() {
        if ROWS {
            table = load_table(&job.table_of_row(step.row).vector);
        }
        for g in (0..G).rev() {
            let active = step.active.saturating_sub(GROUP * g).min(GROUP);
            if active == 0 {
                continue;
            }
            let lanes = (u64::MAX >> (64 - active)) as u32;
            // SAFETY: entries first + 32 g .. + active exist; the mask keeps the load
            // to them.
            let entry =
                unsafe { _mm256_maskz_loadu_epi8(lanes, job.entries.as_ptr().add(step.first + GROUP * g).cast()) };
            let entry = _mm512_cvtepu8_epi16(entry);
            let divisor = look_up(table.divisor, entry);
            let shift = look_up(table.shift, entry);
            lost |= lanes & _mm512_testn_epi16_mask(divisor, divisor);

            let due = _mm512_mask_cmpge_epu16_mask(lanes, high[g], _mm512_srlv_epi16(divisor, shift));
            let count = due.count_ones() as usize;
            // The words go to the upper end of a register, which is stored whole: what
            // is below them will be overwritten.
            let fresh = _mm512_maskz_compress_epi16(due, low[g]);
            let turn = _mm512_add_epi16(lane, _mm512_set1_epi16(count as i16));
            let fresh = _mm512_permutexvar_epi16(turn, fresh);
            // SAFETY: every element before this one took at most one of the words, so
            // that at least SLACK = 32 are left below `at`.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().add(at - GROUP).cast(), fresh) };
            at -= count;

            let dividend_high = _mm512_mask_mov_epi16(high[g], due, zero);
            let dividend_low = _mm512_mask_mov_epi16(low[g], due, high[g]);
            let reciprocal = look_up(table.reciprocal, entry);
            let (quotient, rest) = divide(dividend_high, dividend_low, divisor, shift, reciprocal);
            let occurrence = _mm512_add_epi16(rest, look_up(table.start, entry));
            high[g] = _mm512_mask_mov_epi16(high[g], lanes, quotient);
            low[g] = _mm512_mask_mov_epi16(low[g], lanes, slots::<TRELLIS>(&table, entry, occurrence));
        }
    }
    if lost != 0 {
        return Err(Defect("a symbol that its table cannot code"));
    }
    for g in 0..G {
        // SAFETY: as above.
        unsafe {
            _mm512_storeu_si512(states.high.as_mut_ptr().add(GROUP * g).cast(), high[g]);
            _mm512_storeu_si512(states.low.as_mut_ptr().add(GROUP * g).cast(), low[g]);
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    fn quotients(dividends: &[u32; GROUP], divisor: u16) -> [(u16, u16); GROUP] {
        let shift = divisor.leading_zeros() as u16;
        let normal = divisor << shift;
        let reciprocal = (u32::MAX / u32::from(normal)) as u16;
        let [high] = load(&dividends.map(|x| (x >> 16) as u16));
        let [low] = load(&dividends.map(|x| x as u16));
        let all = |word: u16| _mm512_set1_epi16(word as i16);
        let (quotient, rest) = divide(high, low, all(normal), all(shift), all(reciprocal));
        let (mut quotients, mut rests) = ([0u16; GROUP], [0u16; GROUP]);
        // SAFETY: the arrays are as large as registers.
        unsafe {
            _mm512_storeu_si512(quotients.as_mut_ptr().cast(), quotient);
            _mm512_storeu_si512(rests.as_mut_ptr().cast(), rest);
        }
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
