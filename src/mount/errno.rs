//! Which errno an error becomes. Nothing else maps errors.

use fuser::Errno;

use crate::error::Error;

/// Readers get EIO whatever went wrong: nothing that they could do differs.
pub fn errno(error: &Error) -> Errno {
    match error {
        Error::Corrupt { .. }
        | Error::Truncated { .. }
        | Error::Unsupported { .. }
        | Error::Invalid(_)
        | Error::Cancelled
        | Error::NoMemory
        | Error::Io { .. } => Errno::EIO,
    }
}
