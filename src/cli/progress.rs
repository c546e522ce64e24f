//! The progress bar: rate and time left, on a terminal only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ops::progress::Progress;

/// Shown on standard error if that is a terminal, else silent.
pub struct Bar {
    bar: ProgressBar,
    /// The signal that asked to stop, or 0.
    signal: Arc<AtomicUsize>,
}

impl Bar {
    /// Of bytes.
    pub fn new(signal: Arc<AtomicUsize>) -> Bar {
        Bar::with("{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left", signal)
    }

    /// Of steps that take about as long.
    pub fn of_steps(signal: Arc<AtomicUsize>) -> Bar {
        Bar::with("{wide_bar} {pos}/{len}  {eta} left", signal)
    }

    fn with(template: &str, signal: Arc<AtomicUsize>) -> Bar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar { bar, signal }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn begin(&self, total: u64) {
        self.bar.set_length(total);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn cancelled(&self) -> bool {
        self.signal.load(Relaxed) != 0
    }
}
