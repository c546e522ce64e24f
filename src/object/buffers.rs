//! Memory for units, used again: new memory has to be cleared by the system, page by page, which
//! takes longer than what the network does to it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::UNIT;

/// Buffers that wait to be used again, at most.
const MOST: usize = 16;

/// Where buffers come from, and go back to.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Box<[u8]>>>>);

/// Bytes of one unit, or fewer; what is in it at first is anything.
pub struct Buffer {
    /// Of a whole unit; empty only while it is dropped.
    bytes: Box<[u8]>,
    length: usize,
    home: Buffers,
}

impl Buffers {
    /// `length`: at most that of a unit.
    pub fn take(&self, length: usize) -> Buffer {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; UNIT as usize].into());
        assert!(length <= bytes.len());
        Buffer { bytes, length, home: self.clone() }
    }
}

impl Buffer {
    /// To be shared; when nobody has it any more it is used again.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MOST {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_used_again() {
        let buffers = Buffers::default();
        let mut first = buffers.take(10);
        first.fill(7);
        let place = first.as_ptr();
        let shared = first.freeze();
        let other = shared.clone();
        drop(shared);
        assert_ne!(buffers.take(UNIT as usize).as_ptr(), place);
        assert_eq!(other, [7; 10][..]);
        drop(other);
        let again: Vec<Buffer> = (0..2 * MOST).map(|i| buffers.take(i)).collect();
        assert!(again.iter().any(|buffer| buffer.as_ptr() == place));
        assert!(again.iter().enumerate().all(|(i, buffer)| buffer.len() == i));
        drop(again);
        assert_eq!(buffers.0.lock().expect("not poisoned").len(), MOST);
    }
}
