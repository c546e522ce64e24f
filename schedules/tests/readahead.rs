//! Readers, the threads that decode ahead of them and push, and the end of them all.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use shuttle::thread;
use upg::archive::{Archive, ArchiveWriter, ArrayId, FileId};
use upg::dtype::Dtype;
use upg::error::{Error, Result};
use upg::format::{ArrayInfo, BlockMode, Extent, ExtentKind};
use upg::source::ReadAt;
use upg_schedules::blocks::Blocks;
use upg_schedules::check::check;
use upg_schedules::readahead::{PageCache, Readahead};

const PAGE: u64 = 4096;
/// The file: two tensors that end within pages, in blocks some of which do, too.
const TENSORS: [(u64, u32); 2] = [(2_600_003, 300_000), (1_400_001, 128 << 10)];
const FILE: FileId = FileId(0);

/// An image in memory, and the file that it presents.
struct Image {
    stored: Vec<u8>,
    content: Vec<u8>,
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| make_image().expect("an image"))
}

fn make_image() -> Result<Image> {
    let directory = tempfile::tempdir().map_err(|e| Error::io("a directory", e))?;
    let path = directory.path().join("image.upg");
    let mut writer = ArchiveWriter::create(&path)?;
    let (mut content, mut extents) = (Vec::new(), Vec::new());
    for (i, (length, block)) in TENSORS.into_iter().enumerate() {
        let offset = content.len() as u64;
        content.extend((0..length as u32).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 24) as u8 ^ i as u8));
        let blocks = content[offset as usize..].chunks(block as usize);
        let records = blocks.map(|bytes| writer.add_block(BlockMode::Stored, bytes)).collect::<Result<Vec<_>>>()?;
        let array = writer.add_array(&ArrayInfo::of_bytes(length, block, records[0]));
        let (dtype, shape) = (Some(Dtype::U8), vec![length]);
        let (name, kind) = (format!("tensor {i}"), ExtentKind::Tensor);
        extents.push(Extent { offset, length, kind, name, dtype, shape, array: Some(array) });
    }
    writer.add_file("model.safetensors", &extents);
    writer.add_model("model", "", 0);
    writer.finish()?;
    let stored = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    Ok(Image { stored, content })
}

/// The image as an archive's source; others go on while it is read.
struct Source {
    faults: bool,
}

/// What reading panics with, without a word on the terminal.
struct OnPurpose;

impl ReadAt for Source {
    fn name(&self) -> &str {
        "image.upg"
    }

    fn size(&self) -> u64 {
        image().stored.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        thread::yield_now();
        if self.faults && offset > 0 && offset + (buffer.len() as u64) < self.size() {
            match thread_rng().gen_range(0..20) {
                0 => resume_unwind(Box::new(OnPurpose)),
                1 | 2 => return Err(Error::Invalid("on purpose".into())),
                _ => {}
            }
        }
        buffer.copy_from_slice(&image().stored[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

/// The kernel's page cache of the file. Whoever wants to store a page that a request has locked
/// waits until that is answered.
#[derive(Default)]
struct Pages {
    state: Mutex<PagesState>,
    unlocked: Condvar,
    stored: AtomicU64,
}

#[derive(Default)]
struct PagesState {
    present: Vec<bool>,
    locked: Vec<bool>,
    closed: bool,
}

/// A thread that unwinds is all that a lock is poisoned by here, whoever holds it: they share one
/// thread of the system.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pages_of(range: &Range<u64>) -> Range<usize> {
    (range.start / PAGE) as usize..range.end.div_ceil(PAGE) as usize
}

impl Pages {
    fn new() -> Pages {
        let count = image().content.len().div_ceil(PAGE as usize);
        let state = PagesState { present: vec![false; count], locked: vec![false; count], closed: false };
        Pages { state: Mutex::new(state), ..Pages::default() }
    }

    /// Locks the pages of a request: those from its beginning on that are neither there nor
    /// somebody else's. None if the first is there.
    fn lock(&self, range: Range<u64>) -> Option<Range<u64>> {
        let pages = pages_of(&range);
        let mut state = lock(&self.state);
        while state.locked[pages.start] {
            state = self.unlocked.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = pages.clone().take_while(|&i| !state.present[i] && !state.locked[i]).count();
        state.locked[pages.start..pages.start + count].fill(true);
        (count > 0).then(|| range.start..range.end.min((pages.start + count) as u64 * PAGE))
    }

    fn unlock(&self, range: &Range<u64>, filled: bool) {
        let mut state = lock(&self.state);
        for i in pages_of(range) {
            state.locked[i] = false;
            state.present[i] |= filled;
        }
        drop(state);
        self.unlocked.notify_all();
    }

    /// Memory is short.
    fn forget(&self) {
        lock(&self.state).present.fill(false);
    }

    fn close(&self) {
        lock(&self.state).closed = true;
    }
}

struct Kernel(Arc<Pages>);

impl PageCache for Kernel {
    fn is_open(&self) -> bool {
        !lock(&self.0.state).closed
    }

    fn store(&self, file: FileId, offset: u64, pages: &[u8]) -> io::Result<()> {
        assert!(file == FILE && offset.is_multiple_of(PAGE) && (pages.len() as u64).is_multiple_of(PAGE));
        assert!(image().content[offset as usize..][..pages.len()] == *pages, "other bytes than the file's");
        let mut state = lock(&self.0.state);
        for i in pages_of(&(offset..offset + pages.len() as u64)) {
            while state.locked[i] && !state.closed {
                state = self.0.unlocked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return Err(io::ErrorKind::NotConnected.into());
            }
            state.present[i] = true;
        }
        self.0.stored.fetch_add(pages.len() as u64, Relaxed);
        Ok(())
    }
}

struct Mount {
    blocks: Arc<Blocks>,
    readahead: Readahead,
    pages: Arc<Pages>,
}

impl Mount {
    fn new(capacity: u64, threads: usize, faults: bool) -> Mount {
        let archive = Archive::from_source(Box::new(Source { faults })).expect("an image");
        let blocks = Arc::new(Blocks::new(archive, capacity));
        let readahead = Readahead::new(blocks.clone(), threads).expect("threads");
        let pages = Arc::new(Pages::new());
        readahead.push_into(Box::new(Kernel(pages.clone())));
        Mount { blocks, readahead, pages }
    }

    /// What the kernel does for a reader, and a thread that answers it; false if it fails.
    fn read(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        while at < range.end {
            let Some(request) = self.pages.lock(at / PAGE * PAGE..range.end) else {
                at = (at / PAGE + 1) * PAGE;
                continue;
            };
            at = request.end;
            let answer = catch_unwind(AssertUnwindSafe(|| self.answer(request.clone())));
            self.pages.unlock(&request, matches!(answer, Ok(Ok(()))));
            match answer {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return false,
                Err(payload) if payload.is::<OnPurpose>() => return false,
                Err(payload) => resume_unwind(payload),
            }
        }
        true
    }

    fn answer(&self, request: Range<u64>) -> Result<()> {
        self.readahead.read(FILE, request.clone(), true);
        let mut bytes = Vec::new();
        self.blocks.copy(FILE, request.clone(), &mut bytes)?;
        assert!(image().content[request.start as usize..request.end as usize] == *bytes, "other bytes than the file's");
        Ok(())
    }

    fn pushes_that_agree(&self) {
        let pushed = self.readahead.push_stats().expect("they are pushed");
        assert!(pushed.hit + pushed.wasted <= pushed.bytes, "{pushed:?}");
        let cache = self.blocks.cache().stats();
        assert!(cache.bytes == 0 || cache.bytes + cache.in_flight <= cache.capacity, "{cache:?}");
    }
}

/// Reads on from somewhere, as a process does that maps the file; true if it never failed.
fn reader(mount: &Mount, reads: u64) -> bool {
    let size = image().content.len() as u64;
    let mut at = if thread_rng().gen_bool(0.6) { 0 } else { thread_rng().gen_range(0..size / PAGE) * PAGE };
    let step = PAGE << thread_rng().gen_range(2..6);
    let mut all = true;
    for _ in 0..reads {
        all &= mount.read(at..(at + step).min(size));
        mount.pushes_that_agree();
        at += step;
        if at >= size || thread_rng().gen_ratio(1, 50) {
            at = thread_rng().gen_range(0..size / PAGE) * PAGE;
        }
        if thread_rng().gen_ratio(1, 100) {
            mount.pages.forget();
        }
    }
    all
}

fn several_readers(mount: Mount, readers: usize, reads: u64) -> (Mount, bool) {
    let mount = Arc::new(mount);
    let running: Vec<_> = (0..readers)
        .map(|_| {
            let mount = mount.clone();
            thread::spawn(move || reader(&mount, reads))
        })
        .collect();
    let all = running.into_iter().fold(true, |all, reader| reader.join().expect("no panic but on purpose") & all);
    (Arc::into_inner(mount).expect("the readers have ended"), all)
}

/// Ends the threads, whatever they are doing, and looks at what they leave.
fn finish(mount: Mount) {
    let Mount { blocks, readahead, pages } = mount;
    let pushed = readahead.push_stats().expect("they are pushed");
    drop(readahead);
    assert!(pushed.bytes <= pages.stored.load(Relaxed));
    assert_eq!(Arc::strong_count(&blocks), 1, "a thread still has the blocks");
    let stats = blocks.cache().stats();
    assert_eq!(stats.in_flight, 0);
    assert!(stats.wasted_blocks <= stats.ahead_blocks, "{stats:?}");
}

#[test]
fn readers_get_the_bytes_whatever_is_decoded_and_pushed_ahead() {
    check(100, || {
        let (mount, all) = several_readers(Mount::new(8 << 20, 2, false), 2, 40);
        assert!(all);
        finish(mount);
    });
}

#[test]
fn what_is_queued_is_decoded_though_nobody_reads_on() {
    check(100, || {
        let mount = Mount::new(8 << 20, 2, false);
        assert!(mount.read(0..128 << 10) && mount.read(128 << 10..256 << 10));
        let ahead = || (0..4).all(|block| mount.blocks.cache().holds((ArrayId(0), block)));
        for _ in 0..10_000 {
            thread::yield_now();
            if ahead() {
                return finish(mount);
            }
        }
        panic!("still not decoded");
    });
}

#[test]
fn with_a_small_cache_too() {
    check(100, || {
        let (mount, all) = several_readers(Mount::new(800_000, 2, false), 3, 25);
        assert!(all);
        finish(mount);
    });
}

#[test]
fn sources_that_fail_and_panic_end_nobody() {
    check(100, || finish(several_readers(Mount::new(2 << 20, 2, true), 2, 40).0));
}

#[test]
fn the_end_of_a_mount_ends_what_is_pushed() {
    check(100, || {
        let mount = Mount::new(8 << 20, 2, false);
        let pages = mount.pages.clone();
        let ending = thread::spawn(move || {
            (0..thread_rng().gen_range(0..400)).for_each(|_| thread::yield_now());
            pages.close();
            pages.unlocked.notify_all();
        });
        let (mount, all) = several_readers(mount, 2, 30);
        assert!(all);
        finish(mount);
        ending.join().expect("no panic");
    });
}
