//! The instruction sets that code is chosen by.
//!
//! The best that the machine has is chosen once; `UPG_ISA=portable` (or `avx2`, `avx512`) chooses
//! for tests and benchmarks.
//!
//! Operating systems' own code is compiled without SSE2, and then has no vector kernel either:
//! there are no registers to pass vectors in.

use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::sync::OnceLock;

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
/// An array of what an expression gives for 0 and 1. Not a closure: those do not have
/// the features of the function around them when an iterator or `map` calls them.
macro_rules! both {
    (|$i:ident| $value:expr) => {
        [
            {
                let $i = 0usize;
                $value
            },
            {
                let $i = 1usize;
                $value
            },
        ]
    };
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(super) use both;

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
    /// The best first.
    const ALL: &[Isa] = &[
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Isa::Avx512,
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Isa::Avx2,
        Isa::Portable,
    ];

    /// Whether this machine has all that the decoding kernel takes.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Isa::Avx2 => machine_has!("avx2", "popcnt", "f16c"),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Isa::Avx512 => machine_has!("avx512f", "avx512bw", "avx512vl", "avx512vbmi2", "popcnt"),
        }
    }

    /// Those that this machine has, the best first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.iter().copied().filter(|isa| isa.is_available()).collect()
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
