//! What a program needs where there is no operating system's library: a start, an end, a way to say
//! something, memory, and the functions that compilers take for granted.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Linux on x86_64: another machine needs these four of its own.
mod machine {
    const WRITE: usize = 1;
    const EXIT: usize = 60;

    /// Where the kernel begins: the stack is as calls want it after one.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        core::arch::naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym crate::main)
    }

    fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
        let result;
        // SAFETY: the two calls below read what they are given, and change nothing here.
        unsafe {
            core::arch::asm!(
                "syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
                out("rcx") _, out("r11") _, options(nostack)
            );
        }
        result
    }

    pub fn write(fd: usize, bytes: &[u8]) -> isize {
        call(WRITE, fd, bytes.as_ptr().addr(), bytes.len())
    }

    pub fn exit(code: usize) -> ! {
        call(EXIT, code, 0, 0);
        unreachable!("the kernel ends the program")
    }
}

pub use machine::exit;

/// A file descriptor.
pub struct Output(pub usize);

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written = usize::try_from(machine::write(self.0, rest)).map_err(|_| fmt::Error)?;
            rest = rest.get(written..).ok_or(fmt::Error)?;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Output(2), "{info}");
    exit(101)
}

/// The toolchain's `alloc` can unwind and names what does that. Nothing does here: a panic ends the
/// program before.
mod unwinding {
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() -> ! {
        super::exit(102)
    }

    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Resume() -> ! {
        super::exit(102)
    }
}

const SPACE: usize = 32 << 20;

/// Memory that is handed out from one end to the other. What was handed out last is taken back, and
/// all of it when nobody has any.
struct Arena {
    space: UnsafeCell<[u8; SPACE]>,
    taken: AtomicUsize,
    users: AtomicUsize,
}

// SAFETY: the program has one thread.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena =
    Arena { space: UnsafeCell::new([0; SPACE]), taken: AtomicUsize::new(0), users: AtomicUsize::new(0) };

// SAFETY: no two allocations overlap: each begins where those that are in use end.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.space.get().cast::<u8>();
        let start = (base.addr() + self.taken.load(Relaxed)).next_multiple_of(layout.align()) - base.addr();
        match start.checked_add(layout.size()).filter(|&end| end <= SPACE) {
            Some(end) => {
                self.taken.store(end, Relaxed);
                self.users.fetch_add(1, Relaxed);
                // SAFETY: inside the space.
                unsafe { base.add(start) }
            }
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let start = at.addr() - self.space.get().addr();
        if self.users.fetch_sub(1, Relaxed) == 1 {
            self.taken.store(0, Relaxed);
        } else if start + layout.size() == self.taken.load(Relaxed) {
            self.taken.store(start, Relaxed);
        }
    }
}

/// Each writes volatile: the compiler would make a call of the very function of another loop.
mod memory {
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for i in 0..length {
            // SAFETY: the caller's promise.
            unsafe { to.add(i).write_volatile(*from.add(i)) }
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        if to.addr().wrapping_sub(from.addr()) >= length {
            // SAFETY: the caller's promise; what is overwritten was read.
            return unsafe { memcpy(to, from, length) };
        }
        for i in (0..length).rev() {
            // SAFETY: the caller's promise.
            unsafe { to.add(i).write_volatile(*from.add(i)) }
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
        for i in 0..length {
            // SAFETY: the caller's promise.
            unsafe { to.add(i).write_volatile(byte as u8) }
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
        for i in 0..length {
            // SAFETY: the caller's promise.
            let (a, b) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { memcmp(a, b, length) }
    }
}
