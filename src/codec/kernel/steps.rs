//! The steps of a block one by one, for the loops that decode.

use crate::codec::layout::{BlockShape, Step};

/// Yields what [`BlockShape::steps`] does. That searches for the next step, and the
/// compiler makes vector code of the search, which costs more than decoding.
pub struct Steps {
    shape: BlockShape,
    /// Of the next step, unless the group of columns is done.
    row: usize,
    column: usize,
    first: usize,
    /// Rows that have elements in this group of columns.
    rows: usize,
}

impl Steps {
    pub fn new(shape: BlockShape) -> Steps {
        Steps { shape, row: 0, column: 0, first: 0, rows: shape.rows() }
    }
}

impl Iterator for Steps {
    type Item = Step;

    #[inline(always)]
    fn next(&mut self) -> Option<Step> {
        let BlockShape { elements, row_len, lanes } = self.shape;
        if self.row == self.rows {
            let column = self.column + lanes;
            // The last row may end before these columns.
            let all = self.shape.rows();
            let rows = if (all - 1) * row_len + column < elements { all } else { all - 1 };
            if column >= row_len || rows == 0 {
                return None;
            }
            (self.row, self.column, self.first, self.rows) = (0, column, column, rows);
        }
        let active = lanes.min(row_len - self.column).min(elements - self.first);
        let step = Step { row: self.row, column: self.column, first: self.first, active };
        self.row += 1;
        self.first += row_len;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_layout() {
        for lanes in [32, 64] {
            for row_len in [1, 7, 31, 32, 33, 64, 100, 333] {
                for elements in (1..2000).step_by(13).chain([row_len, 2 * row_len]) {
                    let shape = BlockShape { elements, row_len, lanes };
                    assert!(Steps::new(shape).eq(shape.steps()), "{shape:?}");
                }
            }
        }
    }
}
