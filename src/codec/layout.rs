//! The order in which the elements of a block are coded (`docs/format.md`, 7.2).

/// The shape of one block: whole rows of `row_len` elements, coded `lanes` at a
/// time. The last row may be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    pub elements: usize,
    pub row_len: usize,
    pub lanes: usize,
}

/// Up to `lanes` neighbouring elements of one row, coded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub row: usize,
    /// Column of lane 0.
    pub column: usize,
    /// Index of lane 0's element within the block.
    pub first: usize,
    /// Lanes `0..active` take part, at least one.
    pub active: usize,
}

impl BlockShape {
    pub fn rows(&self) -> usize {
        self.elements.div_ceil(self.row_len)
    }

    fn groups(&self) -> usize {
        self.row_len.div_ceil(self.lanes)
    }

    /// A group of neighbouring columns after the other, each down all rows: a
    /// column is finished before the next group begins, which calibrated
    /// encoders need, and a step writes neighbouring elements, which decoders
    /// need.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Step> + Clone + '_ {
        let rows = self.rows();
        (0..self.groups()).flat_map(move |group| (0..rows).filter_map(move |row| self.step(group, row)))
    }

    #[inline]
    fn step(&self, group: usize, row: usize) -> Option<Step> {
        let column = group * self.lanes;
        let first = row * self.row_len + column;
        if first >= self.elements {
            return None;
        }
        let active = self.lanes.min(self.row_len - column).min(self.elements - first);
        Some(Step { row, column, first, active })
    }

    /// Bytes that the raw bits of a step take (`docs/format.md`, 7.4).
    pub fn raw_bytes_of_step(active: usize, raw_bits: u8) -> usize {
        usize::from(raw_bits / 8) * active + usize::from(raw_bits % 8) * active.div_ceil(8)
    }

    /// Bytes that the raw bits of the whole block take.
    pub fn raw_bytes(&self, raw_bits: u8) -> usize {
        let whole_rows = self.elements / self.row_len;
        whole_rows * self.raw_bytes_of_row(self.row_len, raw_bits)
            + self.raw_bytes_of_row(self.elements % self.row_len, raw_bits)
    }

    fn raw_bytes_of_row(&self, len: usize, raw_bits: u8) -> usize {
        len / self.lanes * Self::raw_bytes_of_step(self.lanes, raw_bits)
            + Self::raw_bytes_of_step(len % self.lanes, raw_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_coded_once() {
        for (elements, row_len) in [(1, 1), (100, 7), (1000, 100), (1000, 64), (1023, 64), (500, 333), (37, 37)] {
            let shape = BlockShape { elements, row_len, lanes: 32 };
            let mut seen = vec![0; elements];
            for step in shape.steps() {
                assert_eq!(step.first, step.row * row_len + step.column);
                for count in &mut seen[step.first..step.first + step.active] {
                    *count += 1;
                }
            }
            assert!(seen.iter().all(|&count| count == 1), "{shape:?}");
        }
    }

    #[test]
    fn a_group_of_columns_is_finished_before_the_next_begins() {
        let shape = BlockShape { elements: 70 * 5, row_len: 70, lanes: 32 };
        let order: Vec<_> = shape.steps().map(|s| (s.column, s.row)).collect();
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(order, sorted);
        assert_eq!(order.len(), 15);
    }

    #[test]
    fn raw_bytes_add_up_over_the_steps() {
        for (elements, row_len) in [(1, 1), (100, 7), (1000, 100), (1023, 64), (500, 333)] {
            for raw_bits in [0, 1, 7, 8, 10, 24, 53] {
                let shape = BlockShape { elements, row_len, lanes: 32 };
                let sum: usize = shape.steps().map(|s| BlockShape::raw_bytes_of_step(s.active, raw_bits)).sum();
                assert_eq!(shape.raw_bytes(raw_bits), sum);
            }
        }
    }
}
