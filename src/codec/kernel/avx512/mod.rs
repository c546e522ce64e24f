//! The AVX-512 kernel: 32 lanes in a pair of registers, all tables in registers.
//!
//! [`coder`] decodes table entries, the other files make elements of them. Covers what
//! [`form`] says; the rest is portable.

#![allow(unsafe_code)]

mod coder;
mod lossless;
mod tables;
mod values;

use core::arch::x86_64::*;

use super::Job;
use super::vector::{Aligned, Form, both, form};
use crate::codec::isa::Isa;
use crate::codec::params::ENTRIES;
use crate::dtype::Dtype;
use crate::error::Defect;
use coder::Output;

/// Decodes a block that [`form`] covers, on a machine that has [`Isa::Avx512`].
pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    let form = form(job).filter(|_| Isa::Avx512.is_available());
    let form = form.ok_or(Defect("the AVX-512 kernel does not cover this block"))?;
    // SAFETY: the machine has the features.
    unsafe {
        match (form, job.params.prime_sparse(), job.params.dtype) {
            (Form::Table16, Some(p), _) => lanes(job, &tables::Table16::new(job, p), out),
            (Form::Table32, Some(p), _) => lanes(job, &tables::Table32::new(job, p), out),
            (Form::Columns, Some(p), Dtype::BF16) => {
                lanes(job, &values::Values::<_, values::Bf16>::new(job, values::Columns::new(job, p)), out)
            }
            (Form::Columns, Some(p), Dtype::F16) => {
                lanes(job, &values::Values::<_, values::F16>::new(job, values::Columns::new(job, p)), out)
            }
            (Form::Columns, Some(p), _) => {
                lanes(job, &values::Values::<_, values::F32>::new(job, values::Columns::new(job, p)), out)
            }
            (Form::Levels, Some(p), Dtype::BF16) => {
                lanes(job, &values::Values::<_, values::Bf16>::new(job, values::Levels::new(job, p)), out)
            }
            (Form::Levels, Some(p), Dtype::F16) => {
                lanes(job, &values::Values::<_, values::F16>::new(job, values::Levels::new(job, p)), out)
            }
            (Form::Levels, Some(p), _) => {
                lanes(job, &values::Values::<_, values::F32>::new(job, values::Levels::new(job, p)), out)
            }
            (Form::Bf16, ..) => without_trellis(job, &lossless::Bf16::new(job), out),
            (Form::F16, ..) => without_trellis(job, &lossless::F16::new(job), out),
            (Form::F32, ..) => without_trellis(job, &lossless::F32::new(job), out),
            (Form::F8, ..) => without_trellis(job, &lossless::F8::new(job), out),
            (_, None, _) => Err(Defect("only prime-sparse has levels")),
        }
    }
}

/// # Safety
/// The machine has the features.
unsafe fn lanes<O: Output>(job: &Job<'_>, output: &O, out: &mut [u8]) -> Result<(), Defect> {
    if job.params.trellis().is_none() {
        // SAFETY: the caller's promise.
        return unsafe { without_trellis(job, output, out) };
    }
    // SAFETY: the caller's promise.
    unsafe {
        match job.shape.lanes {
            32 => coder::run::<1, 1, O>(job, output, out),
            64 => coder::run::<2, 1, O>(job, output, out),
            128 => coder::run::<4, 1, O>(job, output, out),
            _ => coder::run::<8, 1, O>(job, output, out),
        }
    }
}

/// # Safety
/// The machine has the features.
unsafe fn without_trellis<O: Output>(job: &Job<'_>, output: &O, out: &mut [u8]) -> Result<(), Defect> {
    // SAFETY: the caller's promise.
    unsafe {
        match job.shape.lanes {
            32 => coder::run::<1, 0, O>(job, output, out),
            64 => coder::run::<2, 0, O>(job, output, out),
            128 => coder::run::<4, 0, O>(job, output, out),
            _ => coder::run::<8, 0, O>(job, output, out),
        }
    }
}

/// 64 u16 in two registers.
type Table = [__m512i; 2];

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_table(words: &[u16; ENTRIES]) -> Table {
    let start = words.as_ptr().cast::<__m512i>();
    // SAFETY: 64 u16 are two times 64 bytes; the loads need no alignment.
    unsafe { [_mm512_loadu_si512(start), _mm512_loadu_si512(start.add(1))] }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_aligned(words: &Aligned) -> Table {
    load_table(&words.0)
}

/// For each of 32 indices below 64, the table's number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look_up(table: Table, index: __m512i) -> __m512i {
    _mm512_permutex2var_epi16(table[0], index, table[1])
}

/// Writes the lanes of the mask; `to` holds 2 bytes for each of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_16(to: &mut [u8], lanes: u32, elements: __m512i) {
    if let Some(to) = to.first_chunk_mut::<64>() {
        // SAFETY: 64 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), elements) }
    } else {
        assert!(to.len() == 2 * lanes.count_ones() as usize);
        // SAFETY: the mask has its lowest bits set, and keeps the store to `to`.
        unsafe { _mm512_mask_storeu_epi16(to.as_mut_ptr().cast(), lanes, elements) }
    }
}

/// Writes the lanes of the mask; `to` holds 4 bytes for each of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_32(to: &mut [u8], lanes: u32, elements: [__m512i; 2]) {
    if let Some(to) = to.first_chunk_mut::<128>() {
        // SAFETY: 128 bytes.
        unsafe {
            _mm512_storeu_si512(to.as_mut_ptr().cast(), elements[0]);
            _mm512_storeu_si512(to.as_mut_ptr().add(64).cast(), elements[1]);
        }
    } else {
        assert!(to.len() == 4 * lanes.count_ones() as usize);
        // SAFETY: the mask has its lowest bits set, and keeps the stores to `to`.
        unsafe {
            _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), lanes as u16, elements[0]);
            _mm512_mask_storeu_epi32(to.as_mut_ptr().wrapping_add(64).cast(), (lanes >> 16) as u16, elements[1]);
        }
    }
}

/// Lanes 0 to 15 and 16 to 31 as 32 bits each, from their lower and upper halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn join_halves(low: __m512i, high: __m512i) -> [__m512i; 2] {
    const fn interleaved(first: u16) -> Aligned32 {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i as usize] = first + i / 2 + 32 * (i % 2);
            i += 1;
        }
        Aligned32(order)
    }
    static ORDERS: [Aligned32; 2] = [interleaved(0), interleaved(16)];
    both!(|i| _mm512_permutex2var_epi16(low, load_order(&ORDERS[i]), high))
}

#[repr(C, align(64))]
struct Aligned32([u16; 32]);

#[inline]
#[target_feature(enable = "avx512f")]
fn load_order(words: &Aligned32) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(words.0.as_ptr().cast()) }
}
