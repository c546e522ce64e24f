//! How far something is, and whether to go on with it.

/// Told of progress, in bytes of what is read or in steps, and asked whether to go on.
pub trait Progress: Sync {
    fn begin(&self, total: u64);
    fn advance(&self, done: u64);
    fn cancelled(&self) -> bool;
}

/// Nobody watches, and nobody stops it.
impl Progress for () {
    fn begin(&self, _: u64) {}
    fn advance(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}
