//! How many threads there are to be.

/// As many as were asked for, else one for each core.
pub fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(cores, usize::from)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
