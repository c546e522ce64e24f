//! What messages call the parts of an archive.

use alloc::format;
use alloc::string::String;

use super::reader::{Archive, ArrayId};
use crate::format::ExtentKind;

/// What messages call the block of a tensor that holds its tables and steps. What is said of such a
/// block ends with it.
pub const SIDE_BLOCK: &str = "side block";

impl Archive {
    /// What array `id` holds, and `part`, that which is meant of it.
    pub(super) fn describe(&self, id: ArrayId, part: &str) -> String {
        let found = self.index.extents.iter().position(|extent| extent.array == Some(id.0));
        let file = found.and_then(|i| self.index.files.iter().position(|file| file.extents.contains(&i)));
        let path = file.map_or_else(String::new, |file| self.shown_path(file));
        match found.map(|i| &self.index.extents[i]) {
            Some(e) if e.kind == ExtentKind::Tensor => format!("tensor {:?} of {path:?}, {part}", e.name),
            Some(e) if e.kind == ExtentKind::Header => format!("header of {path:?}, {part}"),
            _ => format!("content of {path:?}, {part}"),
        }
    }

    /// The same of one of the blocks that the array is coded in.
    pub(super) fn describe_block(&self, id: ArrayId, block: u32) -> String {
        self.describe(id, &format!("block {block}"))
    }

    /// The path of file number `file` as a mount shows it.
    pub fn shown_path(&self, file: usize) -> String {
        let path = &self.index.files[file].path;
        let model = self.index.models.iter().find(|model| self.names_models && model.files.contains(&file));
        model.map_or_else(|| path.clone(), |model| format!("{}/{path}", model.name))
    }
}
