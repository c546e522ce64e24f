//! Element types, their codes in the format and their bit layout.

/// The element types of safetensors 0.8, with their codes in the format
/// (`docs/format.md`, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
#[repr(u8)]
pub enum Dtype {
    BOOL = 0,
    F4 = 1,
    F6_E2M3 = 2,
    F6_E3M2 = 3,
    U8 = 4,
    I8 = 5,
    F8_E5M2 = 6,
    F8_E4M3 = 7,
    F8_E8M0 = 8,
    F8_E4M3FNUZ = 9,
    F8_E5M2FNUZ = 10,
    I16 = 11,
    U16 = 12,
    F16 = 13,
    BF16 = 14,
    I32 = 15,
    U32 = 16,
    F32 = 17,
    C64 = 18,
    F64 = 19,
    I64 = 20,
    U64 = 21,
}

use Dtype::*;

const ALL: [(Dtype, &str, u32); 22] = [
    (BOOL, "BOOL", 8),
    (F4, "F4", 4),
    (F6_E2M3, "F6_E2M3", 6),
    (F6_E3M2, "F6_E3M2", 6),
    (U8, "U8", 8),
    (I8, "I8", 8),
    (F8_E5M2, "F8_E5M2", 8),
    (F8_E4M3, "F8_E4M3", 8),
    (F8_E8M0, "F8_E8M0", 8),
    (F8_E4M3FNUZ, "F8_E4M3FNUZ", 8),
    (F8_E5M2FNUZ, "F8_E5M2FNUZ", 8),
    (I16, "I16", 16),
    (U16, "U16", 16),
    (F16, "F16", 16),
    (BF16, "BF16", 16),
    (I32, "I32", 32),
    (U32, "U32", 32),
    (F32, "F32", 32),
    (C64, "C64", 64),
    (F64, "F64", 64),
    (I64, "I64", 64),
    (U64, "U64", 64),
];

/// Where an element's entropy-coded field lies: `bits` bits from bit `shift`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    pub shift: u8,
    pub bits: u8,
}

impl Dtype {
    /// Every element type, in the order of the codes.
    pub fn all() -> impl Iterator<Item = Dtype> {
        ALL.iter().map(|entry| entry.0)
    }

    pub fn from_code(code: u8) -> Option<Dtype> {
        ALL.get(usize::from(code)).map(|entry| entry.0)
    }

    /// By the name that safetensors headers use.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::all().find(|dtype| dtype.name() == name)
    }

    pub fn code(self) -> u8 {
        self as u8
    }

    /// The name that safetensors headers use.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }

    /// Size of an element in bits: 4, 6, 8, 16, 32 or 64.
    pub fn bits(self) -> u32 {
        ALL[self as usize].2
    }

    /// Size of an element in bytes, where that is a whole number.
    pub fn width(self) -> Option<usize> {
        self.bits().is_multiple_of(8).then_some(self.bits() as usize / 8)
    }

    /// Size of an element in bytes of a type that arrays can have, all of which have whole bytes.
    pub fn width_in_array(self) -> usize {
        debug_assert!(self.width().is_some(), "{self:?} in an array");
        self.bits() as usize / 8
    }

    /// Whether a matrix of this type is stored lossily unless something else is asked.
    pub fn lossy_by_default(self) -> bool {
        matches!(self, F16 | BF16 | F32)
    }

    /// Whether a matrix of this type may be stored lossily: what was quantised already
    /// is, only when asked.
    pub fn lossy_when_asked(self) -> bool {
        self.lossy_by_default() || matches!(self, F8_E4M3 | F8_E5M2)
    }

    /// How lossless coding splits an element, for the types where the field
    /// (exponent, and upper mantissa bits where they fit) is far from uniform.
    pub fn split(self) -> Option<Split> {
        self.splits().first().copied()
    }

    /// All the ways of lossless coding to split an element, the usual one first. The
    /// others are for types that have no faster decoder for one of them.
    pub fn splits(self) -> &'static [Split] {
        const fn split(shift: u8, bits: u8) -> Split {
            Split { shift, bits }
        }
        match self {
            BF16 => const { &[split(7, 8)] },
            F16 => const { &[split(9, 6), split(8, 7), split(10, 5)] },
            F32 => const { &[split(23, 8)] },
            F64 => const { &[split(52, 11)] },
            F8_E4M3 | F8_E5M2 | F8_E4M3FNUZ | F8_E5M2FNUZ => const { &[split(1, 6), split(0, 7), split(2, 5)] },
            _ => &[],
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_those_of_the_format_and_of_safetensors() {
        for (i, dtype) in Dtype::all().enumerate() {
            assert_eq!(usize::from(dtype.code()), i);
            assert_eq!(Dtype::from_code(dtype.code()), Some(dtype));
            let theirs: safetensors::Dtype =
                serde_json::from_str(&format!("\"{}\"", dtype.name())).expect("a safetensors name");
            assert_eq!(Dtype::from_name(&theirs.to_string()), Some(dtype));
            assert_eq!(theirs.bitsize(), dtype.bits() as usize);
        }
        assert_eq!(Dtype::from_code(22), None);
    }

    #[test]
    fn split_fields_lie_inside_the_element_and_within_its_upper_16_bits() {
        for dtype in Dtype::all() {
            for split in dtype.splits() {
                let top = u32::from(split.shift + split.bits);
                assert!(top <= dtype.bits());
                assert!(u32::from(split.shift) + 16 >= dtype.bits(), "the histogram sees 16 bits");
            }
        }
    }
}
