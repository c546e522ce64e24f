//! What a read takes once its blocks are decoded.

use std::path::Path;

use upg::archive::{Archive, FileId};
use upg::source::Memory;
use upg::vfs::Vfs;

use crate::counting::{allocations, most_allocated};
use crate::{alone, files};

/// Four short lists: of pieces, of blocks and of parts, and what readahead remembers.
const LISTS: usize = 4;
const LISTS_BYTES: usize = 1 << 10;

#[test]
fn reads_of_decoded_blocks_take_short_lists_and_copy_nothing() {
    let _alone = alone();
    let mut reads = 0;
    for (path, bytes) in files("golden", "upg") {
        let archive = Archive::from_source(Box::new(Memory::new("memory", bytes))).expect("it is valid");
        let vfs = Vfs::new(archive, 64 << 20, 0).expect("it can be mounted");
        for file in (0..vfs.archive().index().files.len() as u32).map(FileId) {
            let size = vfs.archive().file(file).size;
            let read = |offset| vfs.read(file, offset, 4096, true, |_| ()).expect("right");
            (0..size).step_by(4096).for_each(read);
            for offset in (0..size).step_by(4096) {
                let (count, most) = most_allocated(|| allocations(|| read(offset)));
                let name = Path::new(path.file_name().expect("a name")).display();
                assert!(count <= LISTS && most <= LISTS_BYTES, "{name} at {offset}: {count} times, {most} bytes");
                reads += 1;
            }
        }
    }
    assert!(reads > 100);
}
