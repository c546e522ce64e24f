//! Answering a READ with bytes that lie in several places.
//!
//! fuser 0.18 takes one slice, and a READ hardly ever lies within one block: putting it
//! together would copy everything once more. So such an answer is written here, as the kernel has it:
//! the header of `fuse_out_header`, then the bytes, in one call.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use fuser::{ReplyData, Request};

/// Length of the whole, error, number of the request.
const HEADER: usize = 4 + 4 + 8;

/// Answers a READ with these parts, one after the other. `device`: /dev/fuse, as the request was
/// read from it.
pub fn data(device: Option<&OwnedFd>, request: &Request, reply: ReplyData, parts: &[&[u8]]) {
    match (parts, device) {
        ([], _) => reply.data(&[]),
        ([part], _) => reply.data(part),
        (_, None) => reply.data(&parts.concat()),
        (_, Some(device)) => {
            match scattered(device, request.unique().0, parts) {
                Ok(()) => {}
                // It was interrupted, or the mount is going.
                Err(error) => tracing::debug!("reply: {error}"),
            }
            // What has been answered once cannot be again: the EIO that fuser sends here
            // is refused by the kernel. If it was not answered, it is now.
            drop(reply);
        }
    }
}

fn scattered(device: &OwnedFd, unique: u64, parts: &[&[u8]]) -> io::Result<()> {
    let length = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
    let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&length.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    let mut slices = vec![IoSlice::new(&header)];
    slices.extend(parts.iter().map(|part| IoSlice::new(part)));
    // All or nothing: a device has no short writes.
    rustix::io::writev(device.as_fd(), &slices)?;
    Ok(())
}
