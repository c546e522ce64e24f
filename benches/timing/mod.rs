//! How long something takes.

use std::time::Instant;

/// Seconds of one call, the least and the median of at least `calls` which together take at least
/// `seconds`.
pub fn time(calls: usize, seconds: f64, mut call: impl FnMut()) -> [f64; 2] {
    let (mut each, mut total) = (Vec::new(), 0.0);
    while each.len() < calls || total < seconds {
        let start = Instant::now();
        call();
        let took = start.elapsed().as_secs_f64();
        each.push(took);
        total += took;
    }
    each.sort_by(f64::total_cmp);
    [each[0], each[each.len() / 2]]
}
