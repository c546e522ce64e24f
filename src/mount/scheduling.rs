//! How the daemon's threads share the processors with those who read.
#![allow(unsafe_code)]

use std::io;

/// From now on, no thread of this one's makes way for itself when it wakes up (SCHED_BATCH).
///
/// The kernel's read-ahead sends several READs while the program goes on with what it has. Threads that
/// answer at once, or decode ahead, interrupted it at each of them, and each other: with one reader on
/// two processors a load took at least a sixth longer. A processor that rests takes them at once all the
/// same. Whoever has chosen another policy, as with `chrt`, keeps it.
pub fn interrupt_nobody() {
    let failed = |error| tracing::debug!("the scheduling policy stays: {error}");
    match policy() {
        Ok(libc::SCHED_OTHER) => set_policy(libc::SCHED_BATCH).unwrap_or_else(failed),
        Ok(_) => {}
        Err(error) => failed(error),
    }
}

// By system calls, as musl's functions for them do nothing.

fn policy() -> io::Result<i32> {
    // SAFETY: it takes a thread, 0 for this one, and touches no memory.
    match unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) } {
        -1 => Err(io::Error::last_os_error()),
        policy => Ok(policy as i32),
    }
}

fn set_policy(policy: i32) -> io::Result<()> {
    let priority: libc::c_int = 0;
    // SAFETY: the kernel reads its `struct sched_param`, which is one int, and keeps no pointer to it.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_the_policy_unless_it_has_another() {
        let after = |before| {
            std::thread::spawn(move || {
                set_policy(before).expect("nobody needs a right for it");
                interrupt_nobody();
                let inherited = std::thread::spawn(policy).join().expect("ends").expect("has one");
                (policy().expect("has one"), inherited)
            })
        };
        for (before, policy) in [
            (libc::SCHED_OTHER, libc::SCHED_BATCH),
            (libc::SCHED_BATCH, libc::SCHED_BATCH),
            (libc::SCHED_IDLE, libc::SCHED_IDLE),
        ] {
            assert_eq!(after(before).join().expect("ends"), (policy, policy));
        }
    }
}
