//! The section directory of the index (`docs/format.md`, 4.1 and 4.2).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::error::{Error, Result};

/// The sections of version 1, in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum SectionId {
    Features = 1,
    Models = 2,
    Files = 3,
    Extents = 4,
    Arrays = 5,
    Blocks = 6,
    Heap = 7,
}

pub const SECTION_IDS: [SectionId; 7] = [
    SectionId::Features,
    SectionId::Models,
    SectionId::Files,
    SectionId::Extents,
    SectionId::Arrays,
    SectionId::Blocks,
    SectionId::Heap,
];

const DIRECTORY_ENTRY: usize = 24;

/// Where the seven sections lie in the index.
#[derive(Debug, Clone)]
pub struct Sections([Range<usize>; 7]);

impl Sections {
    pub fn range(&self, id: SectionId) -> Range<usize> {
        self.0[id as usize - 1].clone()
    }

    /// `base` is the offset of the index in the file, for messages.
    pub fn parse(file: &str, base: u64, index: &[u8]) -> Result<Sections> {
        let corrupt = |at: usize, what: &str| Error::corrupt(file, "section directory", base + at as u64, what);
        let word = |at: usize| -> Result<u64> {
            let bytes = index.get(at..at + 8).ok_or_else(|| corrupt(at, "the index is too short"))?;
            Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
        };
        // Reserved halves are zero, so a count or an id is a whole word.
        let count = usize::try_from(word(0)?).ok().filter(|&n| n <= index.len() / DIRECTORY_ENTRY);
        let count = count.ok_or_else(|| corrupt(0, "too many sections"))?;
        let directory_end = 8 + count * DIRECTORY_ENTRY;
        let mut found: [Option<Range<usize>>; 7] = Default::default();
        let mut all: Vec<Range<usize>> = Vec::with_capacity(count);
        let mut last_id = 0;
        for at in (8..directory_end).step_by(DIRECTORY_ENTRY) {
            let (id, offset, length) = (word(at)?, word(at + 8)?, word(at + 16)?);
            if id <= last_id || id > u64::from(u32::MAX) {
                return Err(corrupt(at, "section ids are not ascending"));
            }
            last_id = id;
            let end = offset.checked_add(length).filter(|&end| end <= index.len() as u64);
            let Some(end) = end.filter(|_| offset >= directory_end as u64) else {
                return Err(corrupt(at, "section outside the index"));
            };
            let range = offset as usize..end as usize;
            if let Some(slot) = found.get_mut(id as usize - 1) {
                *slot = Some(range.clone());
            }
            all.push(range);
        }
        all.retain(|range| !range.is_empty());
        all.sort_by_key(|range| range.start);
        if all.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(corrupt(8, "sections overlap"));
        }
        let mut ranges: [Range<usize>; 7] = Default::default();
        for (range, section) in ranges.iter_mut().zip(found) {
            *range = section.ok_or_else(|| corrupt(8, "a section is missing"))?;
        }
        Ok(Sections(ranges))
    }

    /// Builds an index out of the contents of the seven sections.
    pub fn write(contents: [&[u8]; 7]) -> Vec<u8> {
        let mut offset = 8 + SECTION_IDS.len() * DIRECTORY_ENTRY;
        let mut index = (SECTION_IDS.len() as u64).to_le_bytes().to_vec();
        for (id, content) in SECTION_IDS.iter().zip(contents) {
            for word in [*id as u64, offset as u64, content.len() as u64] {
                index.extend_from_slice(&word.to_le_bytes());
            }
            offset += content.len();
        }
        contents.iter().for_each(|content| index.extend_from_slice(content));
        index
    }
}

/// Refuses a file whose feature bits this version does not know, by name.
/// Version 1 knows none. `at`: where the names lie in the file.
pub fn check_features(file: &str, features: u64, names: &[u8], at: u64) -> Result<()> {
    if features == 0 {
        return match names {
            [] => Ok(()),
            _ => Err(Error::corrupt(file, "section Features", at, "names of features that are not set")),
        };
    }
    let mut rest = names;
    let mut listed = Vec::new();
    for bit in (0..64).filter(|bit| features >> bit & 1 == 1) {
        let name = rest.split_first().and_then(|(&len, after)| {
            let name = after.get(..usize::from(len)).filter(|_| (1..=63).contains(&len))?;
            rest = &after[usize::from(len)..];
            name.iter().all(|b| (0x20..0x7F).contains(b)).then(|| String::from_utf8_lossy(name).into_owned())
        });
        listed.push(format!("\"{}\" (bit {bit})", name.as_deref().unwrap_or("unnamed")));
    }
    let what = format!("the file needs {}; a newer upg may read it", listed.join(", "));
    Err(Error::unsupported(file, what))
}
