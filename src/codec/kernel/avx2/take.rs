//! Words for the lanes that are short of one, by a shuffle whose control is looked up by
//! their mask.

use core::arch::x86_64::*;

use super::look_up::Words16;

/// For each mask of 8 lanes, the shuffle that hands successive words to them.
static EXPAND: [[u8; 16]; 256] = expand_table();

const fn expand_table() -> [[u8; 16]; 256] {
    let mut table = [[0x80; 16]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut word) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask][2 * lane] = 2 * word;
                table[mask][2 * lane + 1] = 2 * word + 1;
                word += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
}

/// The next words for the lanes of the mask, whose bits are in the order of
/// [`super::look_up::pack`]. Takes twice as many bytes as bits are set.
///
/// # Safety
/// 64 bytes can be read.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub unsafe fn take_words(next: *const u8, mask: u32) -> Words16 {
    // Words before those of the second, third and last 8 lanes: counted from the mask, not
    // from each other, so that they need not wait.
    let before = [0, 0x0000_00FF, 0x00FF_00FF, 0x00FF_FFFF].map(|lanes| (mask & lanes).count_ones() as usize);
    let eight = [mask, mask >> 16, mask >> 8, mask >> 24].map(|mask| &EXPAND[(mask & 0xFF) as usize]);
    let half = |h: usize| {
        // SAFETY: a control has 16 bytes. At most 24 words come before the last 8, so 16
        // bytes from there on are among the 64.
        unsafe {
            let load = |i: usize| _mm_loadu_si128(next.add(2 * before[i]).cast());
            let control = |i: usize| _mm_loadu_si128(eight[i].as_ptr().cast());
            let words = _mm256_set_m128i(load(2 * h + 1), load(2 * h));
            _mm256_shuffle_epi8(words, _mm256_set_m128i(control(2 * h + 1), control(2 * h)))
        }
    };
    [half(0), half(1)]
}
