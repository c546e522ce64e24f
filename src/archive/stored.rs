//! Stored bytes as such: for copies of them, and to check those that no decoding looks at.

use super::reader::{Archive, ArrayId};
use crate::error::{Defect, Error, Result};
use crate::format::BlockMode;

impl Archive {
    /// Where the stored bytes of a block begin in the file.
    pub fn stored_at(&self, id: ArrayId, block: u32) -> u64 {
        self.index.block(self.array(id).first_block + block).offset
    }

    /// Checks what decoding every block of every array does not: side blocks of arrays without
    /// a coded block, and blocks of no array. Gives what is wrong.
    pub fn check_unread(&self) -> impl Iterator<Item = Error> {
        let read = self.records_of_arrays();
        let sides = self.index.arrays.iter().enumerate().filter_map(|(i, array)| {
            let mut records = array.first_block..array.first_block + array.block_count();
            let coded = records.any(|record| self.index.block(record).mode == BlockMode::Coded);
            (array.side_block.is_some() && !coded).then(|| self.check_side(ArrayId(i as u32)))
        });
        let others = read.into_iter().enumerate().filter(|(_, read)| !read).map(|(i, _)| self.check_record(i as u32));
        sides.chain(others).filter_map(Result::err)
    }

    /// Reads a side block and checks it, whether or not anything needs it.
    fn check_side(&self, id: ArrayId) -> Result<()> {
        self.side(id).map(|_| ())
    }

    /// Reads the stored bytes of a block record into `out`, verified.
    pub fn read_stored(&self, record: u32, out: &mut Vec<u8>) -> Result<()> {
        let block = self.index.block(record);
        let at = |defect: Defect| self.defect(defect, format!("block record {record}"), block.offset);
        self.with_stored(&block, at, |stored| {
            out.clear();
            out.extend_from_slice(stored);
            Ok(())
        })
    }

    /// Reads the stored bytes of a record and compares their checksum.
    fn check_record(&self, record: u32) -> Result<()> {
        let block = self.index.block(record);
        let at = |defect: Defect| self.defect(defect, format!("block record {record}"), block.offset);
        self.with_stored(&block, at, |_| Ok(()))
    }

    /// For each record, whether an array names it.
    fn records_of_arrays(&self) -> Vec<bool> {
        // Arrays may share records, all of them all: no look at each record of each.
        let mut begins = vec![0i64; self.index.block_count() + 1];
        for array in &self.index.arrays {
            begins[array.first_block as usize] += 1;
            begins[(array.first_block + array.block_count()) as usize] -= 1;
        }
        let mut users = 0;
        let mut read: Vec<bool> = begins
            .iter()
            .map(|change| {
                users += change;
                users > 0
            })
            .collect();
        read.pop();
        for side in self.index.arrays.iter().filter_map(|array| array.side_block) {
            read[side as usize] = true;
        }
        read
    }
}
