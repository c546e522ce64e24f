//! The AVX2 kernel: 32 lanes as two registers of 16-bit halves, tables read by
//! `vpshufb`.
//!
//! [`coder`] decodes table entries and [`mod@run`] does so for all of a block; [`lossless`],
//! [`tables`] and [`values`] make elements of them. Covers what the AVX-512 kernel
//! covers; [`form`] is shared with it.

#![allow(unsafe_code)]

mod coder;
mod look_up;
mod lossless;
mod run;
mod tables;
mod take;
mod values;

use core::arch::x86_64::*;

use super::Job;
use super::vector::{Form, Loop, Part, form};
use crate::codec::isa::Isa;
use crate::dtype::Dtype;
use crate::error::Defect;
use coder::TrellisKind;
use run::{Output, run};

/// Decodes a block that [`form`] covers, on a machine that has [`Isa::Avx2`].
pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    let form = form(job).filter(|_| Isa::Avx2.is_available());
    let form = form.ok_or(Defect("the AVX2 kernel does not cover this block"))?;
    // SAFETY: the machine has the features.
    unsafe {
        match (form, job.params.prime_sparse(), job.params.dtype) {
            (Form::Table16, Some(p), _) => lanes(job, &tables::Table16::new(job, p), out),
            (Form::Table32, Some(p), _) => lanes(job, &tables::Elements32::new(job, p), out),
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
            (Form::Bf16, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::Bf16::new(job), out),
            (Form::F16, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::F16::new(job), out),
            (Form::F32, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::F32::new(job), out),
            (Form::F8, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::F8::new(job), out),
            (_, None, _) => Err(Defect("only prime-sparse has levels")),
        }
    }
}

/// # Safety
/// The machine has the features.
unsafe fn lanes<O: Output>(job: &Job<'_>, output: &O, out: &mut [u8]) -> Result<(), Defect> {
    // SAFETY: the caller's promise.
    unsafe {
        match job.params.trellis() {
            None => on_lanes::<{ TrellisKind::NONE }, O>(job, output, out),
            Some(trellis) if trellis.log2_states <= 3 => on_lanes::<{ TrellisKind::SMALL }, O>(job, output, out),
            Some(_) => on_lanes::<{ TrellisKind::ANY }, O>(job, output, out),
        }
    }
}

/// # Safety
/// The machine has the features.
unsafe fn on_lanes<const TRELLIS: u8, O: Output>(job: &Job<'_>, output: &O, out: &mut [u8]) -> Result<(), Defect> {
    // SAFETY: the caller's promise.
    unsafe {
        match job.shape.lanes {
            32 => run::<1, 1, TRELLIS, O>(job, output, out),
            64 => run::<2, 2, TRELLIS, O>(job, output, out),
            128 => run::<4, 2, TRELLIS, O>(job, output, out),
            _ => run::<8, 2, TRELLIS, O>(job, output, out),
        }
    }
}

/// One of the step's whole raw bytes, in the order of the lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn byte_plane<L: Loop>(part: &Part<L>, raw: &[u8], plane: usize) -> __m256i {
    let bytes = part.raw_bytes(raw, plane);
    match bytes.first_chunk::<32>() {
        // SAFETY: 32 bytes.
        Some(bytes) => unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) },
        None => load_few(bytes),
    }
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn load_few(bytes: &[u8]) -> __m256i {
    let mut copy = [0u8; 32];
    copy[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(copy.as_ptr().cast()) }
}

/// Writes as many bytes as `to` holds, at most 32 of each register.
#[inline]
#[target_feature(enable = "avx2")]
fn store<const N: usize>(to: &mut [u8], elements: [__m256i; N]) {
    // Whole lines go past the processor's cache: a block is larger than what is near, and who has
    // read the one before in its place, another core, would have to give up each line first. In
    // a mount that took as long as decoding.
    if to.as_ptr().addr().is_multiple_of(LINE) && to.len() == 32 * N && N.is_multiple_of(LINE / 32) {
        for (to, part) in to.as_chunks_mut::<32>().0.iter_mut().zip(elements) {
            // SAFETY: 32 bytes, aligned. What is stored so has no order with other stores: `run`, in
            // whose loop this is, puts a fence on every way out, before anybody else has the block.
            unsafe { _mm256_stream_si256(to.as_mut_ptr().cast(), part) };
        }
        return;
    }
    for (to, part) in to.chunks_mut(32).zip(elements) {
        match to.first_chunk_mut::<32>() {
            // SAFETY: 32 bytes.
            Some(to) => unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), part) },
            None => store_few(to, part),
        }
    }
}

const LINE: usize = 64;

#[inline(never)]
#[target_feature(enable = "avx2")]
fn store_few(to: &mut [u8], part: __m256i) {
    let mut copy = [0u8; 32];
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(copy.as_mut_ptr().cast(), part) };
    to.copy_from_slice(&copy[..to.len()]);
}
