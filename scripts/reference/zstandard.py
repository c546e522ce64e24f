"""[6] One Zstandard frame, by Python 3.14 or by libzstd."""

import ctypes
import functools


@functools.cache
def zstd_decoder():
    """A function (frame, size) -> bytes, or None unless the frame is whole, valid and alone."""
    try:
        from compression import zstd            # Python 3.14

        def decode(frame, size):
            decoder = zstd.ZstdDecompressor()
            try:
                data = decoder.decompress(frame, size + 1)
            except zstd.ZstdError:
                return None
            return data if decoder.eof and not decoder.unused_data else None
        return decode
    except ImportError:
        pass
    try:
        lib = ctypes.CDLL("libzstd.so.1")
    except OSError:
        raise OSError("codec 1 needs compression.zstd (Python 3.14) or libzstd.so.1") from None
    pointer, size_t = ctypes.c_char_p, ctypes.c_size_t
    lib.ZSTD_decompress.argtypes = [pointer, size_t, pointer, size_t]
    lib.ZSTD_findFrameCompressedSize.argtypes = [pointer, size_t]
    lib.ZSTD_decompress.restype = lib.ZSTD_findFrameCompressedSize.restype = size_t

    def decode(frame, size):                    # both functions return errors as huge sizes
        if lib.ZSTD_findFrameCompressedSize(frame, len(frame)) != len(frame):
            return None
        buffer = ctypes.create_string_buffer(size)
        done = lib.ZSTD_decompress(buffer, size, frame, len(frame))
        return buffer.raw if done == size else None
    return decode
