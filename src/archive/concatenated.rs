//! Sources as one.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::source::ReadAt;

/// Sources, one behind the other.
pub struct Concatenated {
    name: String,
    /// Each with where it begins.
    parts: Vec<(u64, Box<dyn ReadAt>)>,
    size: u64,
}

impl Concatenated {
    pub fn new(name: &str, sources: impl Iterator<Item = Box<dyn ReadAt>>) -> Concatenated {
        let mut size = 0;
        let parts = sources.map(|source| {
            let start = size;
            size += source.size();
            (start, source)
        });
        let parts = parts.collect();
        Concatenated { name: name.to_owned(), parts, size }
    }

    /// The part that an offset is in, and what it is there; beyond the end, the last.
    fn part(&self, offset: u64) -> Result<(&dyn ReadAt, u64)> {
        let i = self.parts.partition_point(|(start, _)| *start <= offset);
        let part = i.checked_sub(1).and_then(|i| self.parts.get(i));
        let (start, part) = part.ok_or_else(|| Error::truncated(&self.name, "file", offset, "there is nothing"))?;
        Ok((&**part, offset - start))
    }

    fn for_parts_of(&self, range: Range<u64>, each: impl Fn(&dyn ReadAt, Range<u64>)) {
        for (start, part) in &self.parts {
            let within = range.start.max(*start)..range.end.min(start + part.size());
            if !within.is_empty() {
                each(&**part, within.start - start..within.end - start);
            }
        }
    }
}

impl ReadAt for Concatenated {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    /// Of one part: no block lies in two.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let (part, offset) = self.part(offset)?;
        part.read_exact_at(buffer, offset)
    }

    fn read_right_at(&self, buffer: &mut [u8], offset: u64, is_right: &dyn Fn(&[u8]) -> bool) -> Result<bool> {
        let (part, offset) = self.part(offset)?;
        part.read_right_at(buffer, offset, is_right)
    }

    fn lend(&self, range: Range<u64>) -> Option<Box<dyn AsRef<[u8]> + '_>> {
        let (part, offset) = self.part(range.start).ok()?;
        part.lend(offset..offset + range.end.checked_sub(range.start)?)
    }

    fn will_need(&self, range: Range<u64>) {
        self.for_parts_of(range, |part, range| part.will_need(range));
    }

    fn will_not_need(&self, range: Range<u64>) {
        self.for_parts_of(range, |part, range| part.will_not_need(range));
    }

    fn fetch_no_more_than_asked(&self) {
        self.parts.iter().for_each(|(_, part)| part.fetch_no_more_than_asked());
    }

    fn rest(&self) {
        self.parts.iter().for_each(|(_, part)| part.rest());
    }

    /// The sums of what the parts count.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for (name, count) in self.parts.iter().flat_map(|(_, part)| part.counters()) {
            match sums.iter_mut().find(|(other, _)| *other == name) {
                Some((_, sum)) => *sum += count,
                None => sums.push((name, count)),
            }
        }
        sums
    }

    fn locate(&self, offset: u64) -> (&str, u64) {
        self.part(offset).map_or((&self.name, offset), |(part, offset)| part.locate(offset))
    }
}
