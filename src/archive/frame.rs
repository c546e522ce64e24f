//! Blocks that are zstd frames: those of small files and tensors. The C library decodes them where
//! there is std, and the crate ruzstd elsewhere. What is well-formed is the same from both; of a frame
//! that is damaged, and whose checksum fits all the same, they need not refuse the same, nor make the
//! same of it.

#[cfg(feature = "std")]
use self::in_c as decompress;
#[cfg(not(feature = "std"))]
use self::in_rust as decompress;
use crate::error::Defect;

/// What frames begin with (RFC 8878).
const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

const NOT_A_FRAME: Defect = Defect("not a single zstd frame");
const WRONG_LENGTH: Defect = Defect("zstd frame of a wrong length");
const UNDECODABLE: Defect = Defect("zstd cannot decode it");

/// Decodes one frame, with nothing behind it, that fills `out`.
pub fn decode(stored: &[u8], out: &mut [u8]) -> Result<(), Defect> {
    if !stored.starts_with(&MAGIC) {
        return Err(NOT_A_FRAME);
    }
    if decompress(stored, out)? != out.len() {
        return Err(WRONG_LENGTH);
    }
    Ok(())
}

/// Returns how many bytes were written.
#[cfg(feature = "std")]
fn in_c(stored: &[u8], out: &mut [u8]) -> Result<usize, Defect> {
    if zstd::zstd_safe::find_frame_compressed_size(stored).ok() != Some(stored.len()) {
        return Err(NOT_A_FRAME);
    }
    zstd::bulk::decompress_to_buffer(stored, out).map_err(|_| UNDECODABLE)
}

/// Returns how many bytes were written. What a frame says of its length is not believed: one of
/// its blocks, which have at most 128 KiB, is decoded after the other, while there is room.
#[cfg(any(test, not(feature = "std")))]
fn in_rust(stored: &[u8], out: &mut [u8]) -> Result<usize, Defect> {
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
    use ruzstd::io::Read;

    /// So much of what was decoded is kept to refer to; RFC 8878 has every decoder take this.
    const MAX_WINDOW: u64 = 8 << 20;

    let mut rest = stored;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW);
    decoder.reset(&mut rest).map_err(|_| UNDECODABLE)?;
    // 0 where the frame does not say.
    if ![0, out.len() as u64].contains(&decoder.content_size()) {
        return Err(WRONG_LENGTH);
    }
    let mut written = 0;
    while !decoder.is_finished() {
        decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1)).map_err(|_| UNDECODABLE)?;
        written += decoder.read(&mut out[written..]).map_err(|_| UNDECODABLE)?;
        if decoder.can_collect() > 0 {
            return Err(WRONG_LENGTH);
        }
    }
    if !rest.is_empty() {
        return Err(NOT_A_FRAME);
    }
    match decoder.get_checksum_from_data() {
        Some(checksum) if checksum != xxhash_rust::xxh64::xxh64(&out[..written], 0) as u32 => Err(UNDECODABLE),
        _ => Ok(written),
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_the_same_to_both_and_no_damage_ends_the_program() {
        let text: Vec<u8> = (0..50_000u64).flat_map(|i| (i * i / 7 % 1000).to_string().into_bytes()).collect();
        for (length, level) in [(1, 1), (100, 19), (5_000, 1), (5_000, 19), (text.len(), 1), (text.len(), 19)] {
            let frame = zstd::bulk::compress(&text[..length], level).expect("a frame");
            for decompress in [in_c, in_rust] {
                let mut out = vec![0; length];
                assert_eq!(decompress(&frame, &mut out), Ok(length));
                assert!(out == text[..length], "{length} bytes, level {level}");
                assert!(decompress(&frame[..frame.len() - 1], &mut out).is_err());
                assert!(decompress(&frame, &mut out[1..]).is_err());
                for at in (0..frame.len()).step_by(frame.len().div_ceil(100)) {
                    for bit in 0..8 {
                        let mut damaged = frame.clone();
                        damaged[at] ^= 1 << bit;
                        // Bytes or an error.
                        let _ = decompress(&damaged, &mut out);
                    }
                }
            }
        }
    }
}
