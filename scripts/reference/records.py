"""[3] to [5] The fixed-size records, and what each must be by itself."""

import struct
from collections import namedtuple

from .common import ceil_div, need

NONE = 0xFFFFFFFF
HEAD_MAGIC, END_MAGIC = b"\x89UPG\r\n\x1a\n", b"UPG-END\n"
HEAD_SIZE, TRAILER_SIZE = 16, 64
HASH_OF_NOTHING = 0x2D06800538D394C2
FEATURES, MODELS, FILES, EXTENTS, ARRAYS, BLOCKS, HEAP = SECTIONS = range(1, 8)
STORED, ZSTD, LOSSLESS, PRIME_SPARSE = range(4)                         # codecs [4.6]
CODED, PLAIN, ZEROS = range(3)                                          # modes [4.7]
ROW_STEPS, ROW_CLASSES, COLUMN_STEPS, CENTROIDS = 1, 2, 4, 8            # flags [4.6]
BITS = [8, 4, 6, 6] + [8] * 7 + [16] * 4 + [32] * 3 + [64] * 4          # of each dtype [5]
F8_E5M2, F8_E4M3, F16, BF16, F32 = 6, 7, 13, 14, 17


def layout(name, fields):
    """A function that splits bytes into records. Their fields are spelt name:type, a number is
    zero bytes, and a ref becomes a pair (offset, length)."""
    fields = [field.rpartition(":") for field in fields.split()]
    record = namedtuple(name, [field for field, _, _ in fields if field])
    letters = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f64": "d", "ref": "Q"}
    form = struct.Struct("<" + "".join(letters.get(kind, kind + "s") for _, _, kind in fields))

    def split(data):
        need(len(data) % form.size == 0, f"{name}: {len(data)} bytes are no multiple of a record")
        records = []
        for values in form.iter_unpack(data):
            kept = []
            for (field, _, kind), value in zip(fields, values):
                need(field or not any(value), f"{name} {len(records)}: zero bytes are not zero")
                if field:
                    kept.append((value & NONE, value >> 32) if kind == "ref" else value)
            records.append(record(*kept))
        return records
    return split


split_trailer = layout("trailer", """index_offset:u64 index_length:u64 index_xxh3:u64 features:u64
    size:u64 version:u32 4 own_xxh3:u64 magic:u64""")
split_directory = layout("section", "id:u32 4 offset:u64 length:u64")
split_models = layout("model", "name:ref metadata:ref first:u32 count:u32")
split_files = layout("file", "path:ref size:u64 first:u32 count:u32")
split_extents = layout("extent", "offset:u64 length:u64 name:ref shape:ref array:u32 kind:u8 "
                       "dtype:u8 2")
split_arrays = layout("array", """elements:u64 row_len:u64 block_elems:u32 block_count:u32
    first_block:u32 step_bits:u32 dtype:u8 codec:u8 lanes_32:u8 raw_bits:u8 split_shift:u8
    split_bits:u8 grid:u8 flags:u8 classes:u8 log2_states:u8 h0:u16 h1:u16 2 zero_elements:u64
    sum_w2:f64 sum_error2:f64 side:u32 base:u32""")
split_blocks = layout("block", "offset:u64 length:u32 mode:u8 3 xxh3:u64")

# What is 0 in a record of ARRAYS, by codec [4.6].
UNUSED = {LOSSLESS: ["step_bits", "grid", "log2_states", "h0", "h1"],
          PRIME_SPARSE: ["split_shift", "split_bits"]}
UNUSED[STORED] = UNUSED[ZSTD] = [*UNUSED[LOSSLESS], *UNUSED[PRIME_SPARSE],
                                 "lanes_32", "raw_bits", "flags", "classes"]


def check_component(text):
    """[4.4] One component of a path, or the name of a model."""
    need(1 <= len(text.encode()) <= 255 and text not in (".", "..")
         and not any(c in "/\\" or c < " " or "\x7f" <= c <= "\x9f" for c in text),
         f"{text[:300]!r} is not a path component")


def check_ranges(name, records, total):
    """The (first, count) ranges of the records follow each other and cover 0 .. total."""
    end = 0
    for r in records:
        need(r.first == end, f"{name}: a range begins at {r.first}, not at {end}")
        end += r.count
    need(end == total, f"{name}: the ranges end at {end}, not at {total}")


def those_of(r, records):
    """The files of a model, or the extents of a file."""
    return records[r.first:r.first + r.count]


def check_block(b, index_offset):
    """[4.7]"""
    need(b.mode in (CODED, PLAIN, ZEROS), f"unknown mode {b.mode}")
    need(HEAD_SIZE <= b.offset and b.offset + b.length <= index_offset,
         "its bytes are not between the header and the index")
    need(b.length <= 2**24 + 2**16, "more stored bytes than a block can have")
    need(b.mode != ZEROS or (b.offset, b.length, b.xxh3) == (HEAD_SIZE, 0, HASH_OF_NOTHING),
         "zeros with stored bytes")


def width_of(array):
    return BITS[array.dtype] // 8


def zero_bits(array):
    """[8] Z"""
    return 8 * width_of(array) - array.split_bits - array.raw_bits


def check_base(a, arrays):
    """[4.6] Of an array that is a difference; `arrays` are those before it."""
    need(a.codec == LOSSLESS, f"a difference under codec {a.codec}")
    need(a.base <= len(arrays), "a difference from no array before it")
    b = arrays[a.base - 1]
    need(b.base == 0, "a difference from a difference")
    need((b.elements, b.block_elems, width_of(b)) == (a.elements, a.block_elems, width_of(a)),
         "a difference from an array of another form")


def check_array(a, blocks):
    """[4.6], and what [8] and [9] say of the record."""
    need(a.codec in UNUSED, f"unknown codec {a.codec}")
    need(a.dtype < len(BITS) and BITS[a.dtype] >= 8, f"dtype {a.dtype} is not one of an array")
    for field in UNUSED[a.codec]:
        need(getattr(a, field) == 0, f"{field} is not 0 under codec {a.codec}")
    need(min(a.elements, a.row_len, a.block_elems) >= 1, "elements, row_len or block_elems is 0")
    need(a.block_elems * width_of(a) <= 2**24, "blocks of more than 16 MiB")
    need(a.block_count == ceil_div(a.elements, a.block_elems), "wrong number of blocks")
    need(a.first_block + a.block_count <= len(blocks), "blocks beyond BLOCKS")
    if a.codec in (STORED, ZSTD):
        need(a.row_len == 1 and a.side == NONE, f"rows or a side block under codec {a.codec}")
        return
    need(a.block_elems % a.row_len == 0, "a block does not hold whole rows")
    need(1 <= a.lanes_32 <= 8, f"{32 * a.lanes_32} lanes")
    need(1 <= a.classes <= 16, f"{a.classes} table classes")
    need(a.side < len(blocks) and blocks[a.side].mode == CODED, f"side block {a.side}")
    if a.codec == LOSSLESS:
        need(a.flags in (0, ROW_CLASSES), f"flags {a.flags} under codec 2")
        need(1 <= a.split_bits <= 16 and a.split_shift + a.split_bits <= 8 * width_of(a),
             f"a field of {a.split_bits} bits from bit {a.split_shift} on")
        need(0 <= zero_bits(a) <= a.split_shift, f"{a.raw_bits} raw bits")
        return
    need(a.dtype in (F8_E5M2, F8_E4M3, F16, BF16, F32), f"dtype {a.dtype} under codec 3")
    need(0 < a.step_bits < 0x7F800000, "the step is not finite and above 0")
    need(a.flags < 16, f"unknown flags {a.flags}")
    need(a.raw_bits <= (0 if a.flags & CENTROIDS else 12), f"{a.raw_bits} raw bits")
    need(a.grid == 0 or a.grid == 1 and a.raw_bits <= 4, f"grid {a.grid}, {a.raw_bits} raw bits")
    need(a.log2_states <= 8, f"2^{a.log2_states} trellis states")
    need(max(a.h0, a.h1) < (2 << a.log2_states if a.log2_states else 1), "trellis polynomials")
