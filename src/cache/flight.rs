//! One decode that several readers may wait for.

use super::block::Block;
use crate::sync::{Arc, Condvar, Mutex, PoisonError};

/// A block that somebody is decoding.
#[derive(Default)]
pub(super) struct Flight {
    landed: Mutex<Option<Landing>>,
    changed: Condvar,
}

#[derive(Clone)]
pub(super) enum Landing {
    Decoded(Arc<Block>),
    /// Whoever waits tries for itself, and gets the error first-hand.
    Failed,
}

impl Flight {
    pub(super) fn wait(&self) -> Landing {
        let mut landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(landing) = &*landed {
                return landing.clone();
            }
            landed = self.changed.wait(landed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn land(&self, landing: Landing) {
        *self.landed.lock().unwrap_or_else(PoisonError::into_inner) = Some(landing);
        self.changed.notify_all();
    }
}
