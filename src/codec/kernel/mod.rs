//! Decoding a block: the boundary behind which vector code goes.
//!
//! A kernel gets parts whose lengths and ranges were checked and fills the
//! output; every kernel yields the bits of the portable one. The best that the
//! machine has is chosen once; `UPG_ISA=portable` (or `avx2`, `avx512`) chooses for tests
//! and benchmarks. A kernel for another instruction set gets a file beside these and
//! an arm in [`Isa`].
//!
//! Operating systems' own code is compiled without SSE2, and then has no vector kernel either:
//! there are no registers to pass vectors in.

/// Whether the machine has all of these.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "std"))]
macro_rules! machine_has {
    ($($feature:tt),*) => { $(is_x86_feature_detected!($feature))&&* };
}

/// Without std: whether the program is compiled for them. What else the machine has, only its
/// system could say, which would also have to save those registers.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(feature = "std")))]
macro_rules! machine_has {
    ($($feature:tt),*) => { cfg!(all($(target_feature = $feature),*)) };
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx512;
mod general;
mod map;
mod portable;
mod raw_bits;
mod steps;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod vector;

use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::sync::OnceLock;

use crate::codec::layout::BlockShape;
use crate::codec::params::SymbolParams;
use crate::codec::payload::Payload;
use crate::codec::side::Side;
use crate::error::Defect;

/// What every kernel says of a block whose lanes and words do not come out even.
const UNEVEN: Defect = Defect("lanes or words do not end where they should");

/// All that a kernel needs.
pub struct Job<'a> {
    pub params: &'a SymbolParams,
    pub side: &'a Side,
    pub shape: BlockShape,
    pub payload: Payload<'a>,
}

/// The instruction sets that there is a kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    Portable,
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx2,
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx512,
}

impl Isa {
    /// Those that this machine has, the best first.
    pub fn available() -> Vec<Isa> {
        let all = [
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            avx512::is_available().then_some(Isa::Avx512),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            avx2::is_available().then_some(Isa::Avx2),
            Some(Isa::Portable),
        ];
        all.into_iter().flatten().collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Isa::Avx2 => "avx2",
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Isa::Avx512 => "avx512",
        }
    }

    /// The one that decodes: the best.
    #[cfg(not(feature = "std"))]
    pub fn chosen() -> Isa {
        Isa::available()[0]
    }

    /// The one that decodes: what `UPG_ISA` names if the machine has it, else the best.
    #[cfg(feature = "std")]
    pub fn chosen() -> Isa {
        static CHOSEN: OnceLock<Isa> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let all = Isa::available();
            let wanted = std::env::var("UPG_ISA").unwrap_or_default();
            all.iter().copied().find(|isa| isa.name() == wanted).unwrap_or(all[0])
        })
    }
}

/// Decodes all elements but the escapes; `out` holds the block exactly.
pub fn decode(isa: Isa, job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    match isa {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Isa::Avx512 if vector::form(job).is_some() => avx512::decode(job, out),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Isa::Avx2 if vector::form(job).is_some() => avx2::decode(job, out),
        _ => portable::decode(job, out),
    }
}
