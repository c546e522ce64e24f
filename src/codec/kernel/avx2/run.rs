//! The loop over the steps of a block.

use alloc::vec::Vec;
use core::arch::x86_64::*;

use super::super::steps::Steps;
use super::super::vector::{GROUP, Loop, Part, Partial, Raw, STEP, Tail, Whole, Words};
use super::super::{Job, UNEVEN};
use super::coder::{Group, Symbols, Tables, TrellisKind, advance_table, decode_entries, move_on};
use super::look_up::{Index, opaque, spread};
use crate::codec::layout::Step;
use crate::codec::params::Trellis;
use crate::error::Defect;

/// Makes elements of table entries.
///
/// The methods are unsafe because they may use the features of this kernel, which is
/// all that they demand of the caller.
pub trait Output {
    /// Bytes of an element.
    const WIDTH: usize;
    /// Whether an index has raw bits, so that the entry does not tell its parity.
    const RAW: bool;
    /// What the elements of a row have in common, such as their table.
    type Row<'a>: Copy
    where
        Self: 'a;

    fn row(&self, row: usize) -> Self::Row<'_>;

    /// The raw values of a part's lanes, at least their lowest bits, 0 for escapes.
    unsafe fn raw<L: Loop>(&self, _part: &Part<L>, _raw: &[u8], _entry: Index) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    /// Writes a part's elements, which `out` holds exactly.
    unsafe fn put<L: Loop>(&self, row: Self::Row<'_>, part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]);
}

/// What a step needs beside its position.
struct Shared<'a, O> {
    output: &'a O,
    tables: &'a Tables,
    advance: __m256i,
    raw: &'a [u8],
}

/// A step in which some lanes do not take part. By itself, so that the loop over whole
/// steps keeps its registers.
#[inline(never)]
#[target_feature(enable = "avx2,f16c,popcnt")]
fn partial_step<const TRELLIS: u8, O: Output>(
    shared: &Shared<'_, O>,
    step: &Step,
    groups: &mut [Group],
    words: &mut Words<'_>,
    out: &mut [u8],
) {
    let Shared { output, tables, advance, raw } = *shared;
    let window = words.peek::<STEP>();
    let mut next = window.as_ptr();
    for (g, group) in groups.iter_mut().enumerate() {
        let Some(part) = Part::<Partial<TRELLIS>>::new(step, g) else { break };
        let lanes = spread(part.mask());
        let to = &mut out[O::WIDTH * part.first..][..O::WIDTH * part.active()];
        let group = core::array::from_mut(group);
        // SAFETY: this function has the features. Each of at most 8 groups takes at most 64
        // bytes, of `STEP` = 512.
        unsafe {
            let [entry] = decode_entries::<TRELLIS, 1, Partial<TRELLIS>, O>(output, tables, group, &mut next, lanes);
            let symbols = Symbols { entry, raw: output.raw(&part, raw, entry) };
            if TRELLIS != TrellisKind::NONE {
                move_on::<TRELLIS, Partial<TRELLIS>>(advance, &mut group[0], lanes, symbols, O::RAW);
            }
            output.put(output.row(step.row), &part, raw, symbols, to);
        }
    }
    words.take(next.addr() - window.as_ptr().addr());
}

/// A step in which all lanes of all groups take part, `N` groups side by side.
#[inline]
#[target_feature(enable = "avx2,f16c,popcnt")]
fn whole_step<const G: usize, const N: usize, const TRELLIS: u8, O: Output>(
    shared: &Shared<'_, O>,
    step: &Step,
    groups: &mut [Group; G],
    words: &mut Words<'_>,
    out: &mut [u8],
) {
    let Shared { output, tables, advance, raw } = *shared;
    let all = [_mm256_set1_epi8(-1); 2];
    let row = output.row(step.row);
    let window = words.peek::<STEP>();
    let mut next = window.as_ptr();
    let out = &mut out[O::WIDTH * step.first..][..O::WIDTH * GROUP * G];
    let outs = out.chunks_exact_mut(O::WIDTH * GROUP * N);
    for ((first, groups), out) in (0..G).step_by(N).zip(groups.as_chunks_mut::<N>().0).zip(outs) {
        let (output, tables) = (opaque(output), opaque(tables));
        // SAFETY: this function has the features. Each of `G` groups, at most 8, takes at
        // most 64 bytes, of `STEP` = 512.
        unsafe {
            let entries = decode_entries::<TRELLIS, N, Whole<G, TRELLIS>, O>(output, tables, groups, &mut next, all);
            for n in 0..N {
                let part = Part::<Whole<G, TRELLIS>>::full(step, first + n);
                let symbols = Symbols { entry: entries[n], raw: output.raw(&part, raw, entries[n]) };
                if TRELLIS != TrellisKind::NONE {
                    move_on::<TRELLIS, Whole<G, TRELLIS>>(advance, &mut groups[n], all, symbols, O::RAW);
                }
                let to = &mut out[O::WIDTH * GROUP * n..][..O::WIDTH * GROUP];
                output.put(row, &part, raw, symbols, to);
            }
        }
    }
    words.take(next.addr() - window.as_ptr().addr());
}

/// Decodes a block of 32 `G` lanes, `N` groups of 32 side by side.
///
/// # Safety
/// The machine has the features of this kernel.
#[target_feature(enable = "avx2,f16c,popcnt")]
pub unsafe fn run<const G: usize, const N: usize, const TRELLIS: u8, O: Output>(
    job: &Job<'_>,
    output: &O,
    out: &mut [u8],
) -> Result<(), Defect> {
    const { assert!(GROUP * G * 2 <= STEP && G.is_multiple_of(N)) };
    let payload = &job.payload;
    let classes: Vec<Tables> = job.side.tables.iter().map(|alias| Tables::new(alias, TRELLIS)).collect();
    let trellis = job.params.trellis().unwrap_or(Trellis { log2_states: 1, h0: 0, h1: 0 });
    let advance = advance_table(trellis, TRELLIS);
    let zero = _mm256_setzero_si256();
    let mut groups: [Group; G] = core::array::from_fn(|g| {
        let half = |states: &[u8]| {
            [0, 1].map(|h| {
                let states: &[u8] = &states[2 * GROUP * g + 32 * h..][..32];
                // SAFETY: 32 bytes.
                unsafe { _mm256_loadu_si256(states.as_ptr().cast()) }
            })
        };
        Group { high: half(payload.states_high), low: half(payload.states_low), trellis: zero }
    });
    let tail = Tail::new(payload.words);
    let mut words = Words::new(payload.words, &tail);
    let mut raw_bits = Raw::new(job);

    for step in Steps::new(job.shape) {
        // What this gives up has been written in part, as below.
        words.begin_step().inspect_err(|_| _mm_sfence())?;
        let raw = raw_bits.step(step.active);
        let tables = &classes[payload.row_classes.get(step.row).map_or(0, |&class| usize::from(class))];
        let shared = Shared { output, tables, advance, raw };
        if step.active < GROUP * G {
            let (mut groups_copy, mut words_copy) = (groups, words);
            partial_step::<TRELLIS, O>(&shared, &step, &mut groups_copy, &mut words_copy, out);
            (groups, words) = (groups_copy, words_copy);
            continue;
        }
        whole_step::<G, N, TRELLIS, O>(&shared, &step, &mut groups, &mut words, out);
    }

    // Elements may have gone past the processor's cache; now others may read them.
    _mm_sfence();
    let mut off = zero;
    for Group { high, low, .. } in groups {
        for h in 0..2 {
            off = _mm256_or_si256(off, _mm256_xor_si256(high[h], _mm256_set1_epi16(1)));
            off = _mm256_or_si256(off, low[h]);
        }
    }
    let done = words.all_taken() && _mm256_testz_si256(off, off) == 1;
    if done { Ok(()) } else { Err(UNEVEN) }
}
