#!/usr/bin/env python3
"""A decoder of UPG files, version 1, written from docs/format.md alone.

It shares nothing with the Rust code and is to be read beside the document: numbers in brackets,
like [7.2], are its sections, and names are the document's names. It checks every rule that the
document gives to a reader. It needs Python 3.10 and numpy; codec 1 also needs Python 3.14 or
libzstd.so.1.
"""

import argparse
import ctypes
import functools
import hashlib
import math
import os
import struct
import sys
from collections import namedtuple
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np


class FormatError(Exception):
    """The file breaks a rule of the document, or asks for what version 1 does not have."""


def need(condition, complaint):
    if not condition:
        raise FormatError(complaint)


@contextmanager
def naming(place):
    """Puts the name of a place before the message of any error inside."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{place}: {error}") from None


def ceil_div(a, b):
    return -(-a // b)


def le(data, at, size=8):
    return int.from_bytes(data[at:at + size], "little")


# ---- [2] XXH3, 64 bits, seed 0 ------------------------------------------------------------------

M64 = 2**64 - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MIX_1, MIX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex("""
    b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221
    b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8
    a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb
    170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e
""")
# Row i, 8 words from byte 8 i of the secret on, is the key of stripe i of a block of 16 stripes;
# row 16 is the key that scrambles after the block.
KEYS = np.lib.stride_tricks.sliding_window_view(np.frombuffer(SECRET, "<u8"), 8)
LAST_KEY = np.frombuffer(SECRET, "<u8", 8, 121)


def fold(a, b):
    product = a * b                             # 128 bits
    return (product ^ product >> 64) & M64


def mix(data, at, key_at):
    """16 bytes of data with 16 bytes of the secret."""
    return fold(le(data, at) ^ le(SECRET, key_at), le(data, at + 8) ^ le(SECRET, key_at + 8))


def avalanche(h, shift_1=37, factor_1=MIX_1, shift_2=32, factor_2=1, shift_3=64):
    h = ((h ^ h >> shift_1) * factor_1) & M64
    h = ((h ^ h >> shift_2) * factor_2) & M64
    return h ^ h >> shift_3


def xxh3(data):
    n = len(data)
    if n <= 3:
        h = le(SECRET, 56) ^ le(SECRET, 64)
        if n:
            h = data[0] << 16 | data[n >> 1] << 24 | data[n - 1] | n << 8
            h ^= le(SECRET, 0, 4) ^ le(SECRET, 4, 4)
        return avalanche(h, 33, P64_2, 29, P64_3, 32)
    if n <= 8:
        h = le(data, n - 4, 4) | le(data, 0, 4) << 32
        h ^= le(SECRET, 8) ^ le(SECRET, 16)
        h = (h ^ (h << 49 | h >> 15) ^ (h << 24 | h >> 40)) & M64
        h = h * MIX_2 & M64
        h = (h ^ (h >> 35) + n) * MIX_2 & M64
        return h ^ h >> 28
    if n <= 16:
        low = le(data, 0) ^ le(SECRET, 24) ^ le(SECRET, 32)
        high = le(data, n - 8) ^ le(SECRET, 40) ^ le(SECRET, 48)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return avalanche((n + swapped + high + fold(low, high)) & M64)
    if n <= 128:
        h = n * P64_1
        for i in range(ceil_div(n, 32)):        # from both ends
            h += mix(data, 16 * i, 32 * i) + mix(data, n - 16 * (i + 1), 32 * i + 16)
        return avalanche(h & M64)
    if n <= 240:
        h = n * P64_1 + sum(mix(data, 16 * i, 16 * i) for i in range(8))
        h = avalanche(h & M64) + mix(data, n - 16, 119)
        h += sum(mix(data, 16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16))
        return avalanche(h & M64)
    return xxh3_long(data, n)


def xxh3_long(data, n):
    """A stripe is 8 words, a block 16 stripes. Arithmetic on uint64 arrays wraps."""

    def accumulated(stripes, keys):
        mixed = stripes ^ keys
        products = (mixed & 0xFFFFFFFF) * (mixed >> 32)
        return (products + stripes[..., [1, 0, 3, 2, 5, 4, 7, 6]]).sum(axis=-2)

    blocks, rest = divmod((n - 1) // 64, 16)
    full = np.frombuffer(data, "<u8", blocks * 128).reshape(blocks, 16, 8)
    tail = np.frombuffer(data, "<u8", rest * 8, blocks * 1024).reshape(rest, 8)
    last = np.frombuffer(data, "<u8", 8, n - 64).reshape(1, 8)
    acc = np.array([P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1], np.uint64)
    for sums in accumulated(full, KEYS[:16]):
        acc += sums
        acc = (acc ^ acc >> 47 ^ KEYS[16]) * P32_1
    acc += accumulated(tail, KEYS[:rest]) + accumulated(last, LAST_KEY)
    acc = acc.astype("<u8").tobytes()
    return avalanche((n * P64_1 + sum(mix(acc, i, 11 + i) for i in range(0, 64, 16))) & M64)


# ---- [3] to [5] The index -----------------------------------------------------------------------

NONE = 0xFFFFFFFF
HEAD_MAGIC, END_MAGIC = b"\x89UPG\r\n\x1a\n", b"UPG-END\n"
HEAD_SIZE, TRAILER_SIZE = 16, 64
HASH_OF_NOTHING = 0x2D06800538D394C2
FEATURES, MODELS, FILES, EXTENTS, ARRAYS, BLOCKS, HEAP = SECTIONS = range(1, 8)
STORED, ZSTD, LOSSLESS, PRIME_SPARSE = range(4)                         # codecs [4.6]
CODED, PLAIN, ZEROS = range(3)                                          # modes [4.7]
ROW_STEPS, ROW_CLASSES, COLUMN_STEPS, CENTROIDS = 1, 2, 4, 8            # flags [4.6]
BITS = [8, 4, 6, 6] + [8] * 7 + [16] * 4 + [32] * 3 + [64] * 4          # of each dtype [5]
F16, BF16, F32 = 13, 14, 17


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
    sum_w2:f64 sum_error2:f64 side:u32 4""")
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
        need(a.raw_bits == 8 * width_of(a) - a.split_bits, f"{a.raw_bits} raw bits")
        return
    need(a.dtype in (F16, BF16, F32), f"dtype {a.dtype} under codec 3")
    need(0 < a.step_bits < 0x7F800000, "the step is not finite and above 0")
    need(a.flags < 16, f"unknown flags {a.flags}")
    need(a.raw_bits <= (0 if a.flags & CENTROIDS else 12), f"{a.raw_bits} raw bits")
    need(a.grid == 0 or a.grid == 1 and a.raw_bits <= 4, f"grid {a.grid}, {a.raw_bits} raw bits")
    need(a.log2_states <= 8, f"2^{a.log2_states} trellis states")
    need(max(a.h0, a.h1) < (2 << a.log2_states if a.log2_states else 1), "trellis polynomials")


class Upg:
    """An open file whose header, trailer and index are checked."""

    def __init__(self, file):
        self.file = file
        self.read_index()
        for i, block in enumerate(self.blocks):
            with naming(f"block {i}"):
                check_block(block, self.index_offset)
        for i, array in enumerate(self.arrays):
            with naming(f"array {i}"):
                check_array(array, self.blocks)
        need(self.models, "no model")
        check_ranges("MODELS", self.models, len(self.files))
        check_ranges("FILES", self.files, len(self.extents))
        names = [self.text(model.name) for model in self.models]
        need(len(set(names)) == len(names), "two models of one name")
        for name, model in zip(names, self.models):
            with naming(f"model {name!r}"):
                check_component(name)
                self.check_paths(model)
                self.text(model.metadata)
        for path, file in self.presented():
            with naming(path):
                self.check_extents(file)

    def read(self, offset, length):
        self.file.seek(offset)
        data = self.file.read(length)
        need(len(data) == length, f"no {length} bytes at offset {offset}")
        return data

    def read_index(self):
        """[3], [4.1]"""
        size = self.file.seek(0, os.SEEK_END)
        need(size >= HEAD_SIZE + TRAILER_SIZE, "too short: truncated, or not a UPG file")
        raw = self.read(size - TRAILER_SIZE, TRAILER_SIZE)
        need(raw.endswith(END_MAGIC), "no closing magic: truncated, or not a UPG file")
        need(le(raw, 48) == xxh3(raw[:48]), "the trailer's checksum is wrong")
        need(le(raw, 40, 4) == 1, f"format version {le(raw, 40, 4)} is unknown to this reader")
        trailer, = split_trailer(raw)
        self.index_offset = trailer.index_offset
        need(trailer.size == size, f"{size} bytes instead of {trailer.size}")
        need(HEAD_SIZE <= trailer.index_offset and
             trailer.index_offset + trailer.index_length + TRAILER_SIZE == size,
             "the index is not between the header and the trailer")
        need(self.read(0, HEAD_SIZE) == HEAD_MAGIC + struct.pack("<II", 1, 0), "bad file header")
        index = self.read(trailer.index_offset, trailer.index_length)
        need(xxh3(index) == trailer.index_xxh3, "the index's checksum is wrong")

        end = 8 + 24 * le(index, 0, 4)
        need(end <= len(index) and le(index, 4, 4) == 0, "bad section directory")
        sections = split_directory(index[8:end])
        need(all(s.id < t.id for s, t in zip(sections, sections[1:])), "section ids do not ascend")
        for s in sorted(sections, key=lambda s: (s.offset, s.length)):
            with naming(f"section {s.id}"):
                need(s.offset + s.length <= len(index), "not inside the index")
                need(s.offset >= end or not s.length, "overlaps the directory or a section")
                end = max(end, s.offset + s.length)
        content = {s.id: index[s.offset:s.offset + s.length] for s in sections}
        need(content.keys() >= set(SECTIONS), "a section is missing")

        self.check_features(trailer.features, content[FEATURES])
        self.models = split_models(content[MODELS])
        self.files = split_files(content[FILES])
        self.extents = split_extents(content[EXTENTS])
        self.arrays = split_arrays(content[ARRAYS])
        self.blocks = split_blocks(content[BLOCKS])
        self.heap = content[HEAP]

    def check_features(self, bits, data):
        """[4.2] Version 1 assigns no bit: any feature is refused by its name."""
        names = []
        while data:
            name = data[1:1 + data[0]]
            need(1 <= len(name) == data[0] <= 63 and all(0x20 <= c <= 0x7E for c in name),
                 "FEATURES is not a sequence of names")
            names.append(name.decode("ascii"))
            data = data[1 + len(name):]
        need(len(names) == bin(bits).count("1"), "FEATURES does not match the feature bits")
        need(not names, f"needs features that this reader lacks: {', '.join(names)}")

    def ref(self, ref):
        """[4.1]"""
        need(sum(ref) <= len(self.heap), f"ref {ref} is beyond HEAP")
        need(ref[1] or not ref[0], f"ref {ref} of nothing is not (0, 0)")
        return self.heap[ref[0]:sum(ref)]

    def text(self, ref):
        try:
            return self.ref(ref).decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(f"the text of ref {ref} is not UTF-8") from None

    def presented(self):
        """[4.3] The path under which a view presents each file, and the file."""
        for model in self.models:
            prefix = "" if len(self.models) == 1 else self.text(model.name) + "/"
            for file in those_of(model, self.files):
                yield prefix + self.text(file.path), file

    def check_paths(self, model):
        """[4.4]"""
        paths = [self.text(file.path) for file in those_of(model, self.files)]
        unique = set(paths)
        need(len(unique) == len(paths), "two files of one path")
        for path in paths:
            need(len(path.encode()) <= 4095, "a path of more than 4095 bytes")
            parts = path.split("/")
            for end, part in enumerate(parts):
                check_component(part)
                need("/".join(parts[:end]) not in unique, f"a directory of {path!r} is a file")

    def check_extents(self, file):
        """[4.5]"""
        end = 0
        for e in those_of(file, self.extents):
            with naming(self.title(e)):
                need(e.offset == end, f"does not begin at {end}, where the one before it ends")
                end += e.length
                if e.kind == 2:
                    need(e.dtype < len(BITS), f"unknown dtype {e.dtype}")
                    shape = self.ref(e.shape)
                    need(len(shape) % 8 == 0, "the shape is not one of u64")
                    need(len(shape) <= 8 * 32, "limit exceeded: 32 dimensions")      # [10]
                    elements = math.prod(n for n, in struct.iter_unpack("<Q", shape))
                    need(elements * BITS[e.dtype] == 8 * e.length, "length and shape disagree")
                else:
                    need(e.kind in (0, 1), f"unknown kind {e.kind}")
                    need(e.name == e.shape == (0, 0) and e.dtype == 0, "no tensor, yet described")
                    need(e.kind == 0 or e.offset == 0, "a safetensors header not at offset 0")
                if e.array == NONE:
                    need(e.length == 0, "no array")
                else:
                    need(e.array < len(self.arrays), f"array {e.array} is beyond ARRAYS")
                    a = self.arrays[e.array]
                    need(e.length == a.elements * width_of(a), "not the length of its array")
                    need(a.codec != PRIME_SPARSE or e.kind == 2 and e.dtype == a.dtype,
                         "lossily stored, and no tensor of that element type")
        need(end == file.size, f"the extents end at {end}, the file at {file.size}")

    def title(self, extent):
        tensor = f"tensor {self.text(extent.name)!r} " if extent.kind == 2 else ""
        return f"{tensor}at offset {extent.offset}"

    def content(self, path, file):
        """The bytes of a file, block by block."""
        for extent in those_of(file, self.extents):
            if extent.array != NONE:
                with naming(f"{path}: {self.title(extent)}"):
                    yield from self.array_content(self.arrays[extent.array])

    def array_content(self, a):
        side = None
        if a.side != NONE:
            with naming(f"side block {a.side}"):
                side = read_side(a, self.stored(self.blocks[a.side]))
        for i in range(a.block_count):
            block = self.blocks[a.first_block + i]
            n = min(a.block_elems, a.elements - i * a.block_elems)
            with naming(f"block {a.first_block + i}, stored at {block.offset}"):
                data = decode_block(a, side, block.mode, self.stored(block), n)
            yield data

    def stored(self, block):
        """[4.7]"""
        data = self.read(block.offset, block.length)
        need(xxh3(data) == block.xxh3, "the checksum is wrong")
        return data


# ---- [6] Codecs 0 and 1 -------------------------------------------------------------------------

def decode_block(a, side, mode, stored, n):
    """[4.7] The bytes of a block of n elements."""
    size = n * width_of(a)
    if mode == ZEROS:
        return bytes(size)
    if mode == PLAIN or a.codec == STORED:
        need(len(stored) == size, f"{len(stored)} stored bytes instead of {size}")
        return stored
    if a.codec == ZSTD:
        need(stored.startswith(b"\x28\xB5\x2F\xFD"), "not a Zstandard frame")
        data = zstd_decoder()(stored, size)
        need(data is not None and len(data) == size, f"not one Zstandard frame of {size} bytes")
        return data
    return decode_payload(a, side, stored, n)


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


# ---- [7] What codecs 2 and 3 share --------------------------------------------------------------

class Cursor:
    """Takes parts from the front of some bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count, dtype, what):
        size = count * np.dtype(dtype).itemsize
        need(size <= self.left(), f"ends within the {what}")
        part = np.frombuffer(self.data, dtype, count, self.at)
        self.at += size
        return part


def read_side(a, data):
    """[7.1] The tables of all classes are laid end to end, 64 entries each. With a trellis the
    upper 32 of them are those of quantiser 1."""
    side, cursor = SimpleNamespace(), Cursor(data)
    side.f = cursor.take(64 * a.classes, "<u2", "frequencies").astype(np.int64)
    entries = 32 if a.log2_states else 64
    side.slots = 65536 // entries               # B
    tables = []
    for at in range(0, len(side.f), entries):
        f = side.f[at:at + entries].tolist()
        need(sum(f) == 65536, f"the {entries} frequencies from {at} on do not sum to 65536")
        thr, alias, adj = alias_table(f, side.slots)
        tables.append((thr, [at + i for i in alias], adj))
    side.thr, side.alias, side.adj = (np.ravel(part) for part in zip(*tables))
    if a.codec == LOSSLESS:
        side.value = cursor.take(64, "<u2", "field values").astype(np.uint64)
        need(side.value[0] == 0, "the field value of the escape is not 0")
        need(side.value.max() < 1 << a.split_bits, "a field value is too large")
    if a.flags & CENTROIDS:
        side.centroid = cursor.take(64, "<f4", "centroids")
        need(np.isfinite(side.centroid).all(), "a centroid is not finite")
        need(not side.centroid[::entries].view("<u4").any(), "the escape's centroid is not 0")
    if a.flags & COLUMN_STEPS:
        side.column_step = cursor.take(a.row_len, "u1", "column steps")
    need(cursor.left() == 0, "bytes behind the last part")
    return side


def alias_table(f, slots):
    """[7.5] thr, alias and adj of a context with frequencies f and so many slots per bucket."""
    rem, thr, alias, adj = list(f), [slots] * len(f), list(range(len(f))), [0] * len(f)
    small = [i for i in range(len(f)) if f[i] < slots]
    large = [i for i in range(len(f)) if f[i] >= slots]
    while small:
        s, top = small.pop(), large[-1]
        thr[s], alias[s] = rem[s], top
        rem[top] -= slots - rem[s]
        if rem[top] < slots:
            small.append(large.pop())
    following = list(thr)                       # next
    for i in range(len(f)):
        if thr[i] < slots:
            adj[i] = following[alias[i]] - thr[i]
            following[alias[i]] += slots - thr[i]
    return thr, alias, adj


def steps(a, n):
    """[7.2] The steps of a block: row, first element, number of active lanes."""
    lanes = 32 * a.lanes_32
    for column in range(0, a.row_len, lanes):
        for row in range(ceil_div(n, a.row_len)):
            first = row * a.row_len + column
            active = min(lanes, a.row_len - column, n - first)
            if active > 0:
                yield row, first, active


def decode_payload(a, side, payload, n):
    """[7.3]"""
    lanes, rows, width = 32 * a.lanes_32, ceil_div(n, a.row_len), width_of(a)
    cursor = Cursor(payload)
    escapes = int(cursor.take(1, "<u4", "number of escapes")[0])
    need(escapes <= n, f"{escapes} escapes in {n} elements")
    row_step, row_class = None, np.zeros(rows, np.uint8)
    if a.flags & ROW_STEPS:
        row_step = cursor.take(rows, "u1", "row steps")
    if a.flags & ROW_CLASSES:
        row_class = cursor.take(rows, "u1", "row classes")
        need(row_class.max() < a.classes, "a row has an unknown table class")
    raw = read_raw(a, n, cursor)
    position = cursor.take(escapes, "<u4", "escapes").astype(np.int64)
    need((np.diff(position) > 0).all(), "the escapes do not ascend")
    need((position < n).all(), "an escape is beyond the block")
    escaped = cursor.take(escapes * width, "u1", "escapes").reshape(escapes, width)
    state = cursor.take(lanes, "<u2", "states").astype(np.int64) * 65536
    need(state.all(), "the state of a lane is below 65536")
    state += cursor.take(lanes, "<u2", "states")
    need(cursor.left() % 2 == 0, "ends with half a word")
    words = cursor.take(cursor.left() // 2, "<u2", "words")

    entry = decode_entries(a, side, row_class.tolist(), raw, state, words, n)
    symbol = entry % 32 if a.log2_states else entry
    if a.codec == LOSSLESS:
        element = lossless_elements(a, side, symbol, raw)
    else:
        element = prime_sparse_elements(a, side, entry, symbol, raw, row_step)
    data = element.view(np.uint8).reshape(n, width)
    data[position] = escaped
    return data.tobytes()


def read_raw(a, n, cursor):
    """[7.4] The raw value of every element."""
    raw = np.zeros(n, np.uint64)
    whole, odd = divmod(a.raw_bits, 8)
    for _, first, active in steps(a, n) if a.raw_bits else ():
        value = raw[first:first + active]
        for j in range(whole):
            value |= cursor.take(active, "u1", "raw bits").astype(np.uint64) << 8 * j
        for j in range(odd):
            plane = cursor.take(ceil_div(active, 8), "u1", "raw bits")
            bits = np.unpackbits(plane, bitorder="little")[:active]
            value |= bits.astype(np.uint64) << 8 * whole + j
    return raw


def decode_entries(a, side, row_class, raw, state, words, n):
    """[7.5] The table entry of every element. All lanes of a step go at once; int64 holds their
    states, which are below 2^32, exactly."""
    entry = np.empty(n, np.int64)
    trellis = np.zeros(len(state), np.int64)    # S
    used = 0
    for row, first, active in steps(a, n):
        x, s = state[:active], trellis[:active]
        slot = x % 65536
        bucket = 64 * row_class[row] + 32 * (s % 2) + slot // side.slots
        low = slot % side.slots
        own = low < side.thr[bucket]
        e = np.where(own, bucket, side.alias[bucket])
        off = np.where(own, low, low + side.adj[bucket])
        x[:] = side.f[e] * (x // 65536) + off
        starved = np.flatnonzero(x < 65536)
        need(used + len(starved) <= len(words), "ends within the words")
        x[starved] = x[starved] * 65536 + words[used:used + len(starved)]
        used += len(starved)
        entry[first:first + active] = e % 64
        if a.log2_states:                       # [9.2]
            k = index_of(a, e % 32, raw[first:first + active])
            s[:] = s // 2 ^ s % 2 * (a.h0 // 2) ^ k % 2 * (a.h1 // 2)
    need(used == len(words), f"{len(words) - used} words are left over")
    need((state == 65536).all(), "the final state of a lane is not 65536")
    return entry


# ---- [8] Codec 2 --------------------------------------------------------------------------------

def lossless_elements(a, side, symbol, raw):
    """[8] The last part is shifted twice, since the sum of the shifts may be 64."""
    u = side.value[symbol] << a.split_shift
    u |= raw & (1 << a.split_shift) - 1
    u |= raw >> a.split_shift << a.split_shift << a.split_bits
    return u.astype(f"<u{width_of(a)}")


# ---- [9] Codec 3 --------------------------------------------------------------------------------

def index_of(a, symbol, raw):
    """[9.1] The index k."""
    half = 16 if a.log2_states else 32          # H
    return np.where(symbol == 0, 0, (symbol - half) * (1 << a.raw_bits) + raw.astype(np.int64))


@functools.cache
def prime_grid():
    """[9.3] p(0) to p(511) = 3767: no level is larger, there being at most 4 raw bits."""
    primes = [n for n in range(2, 4000) if all(n % d for d in range(2, math.isqrt(n) + 1))]
    p = [0]
    for j in range(1, 512):
        p.append(min((n for n in primes if n > p[-1]), key=lambda n: (abs(n - 6 * j), n)))
    return np.array(p)


def step_factor(byte):
    """[9.3] t(b), exact in f32."""
    t = np.array([0x3F800000, 0x3F8B95C2, 0x3F9837F0, 0x3FA5FED7,
                  0x3FB504F3, 0x3FC5672A, 0x3FD744FD, 0x3FEAC0C7], np.uint32).view(np.float32)
    byte = byte.astype(np.int32)
    return np.ldexp(t[byte % 8], byte // 8 - 16)


@np.errstate(over="ignore", under="ignore")
def prime_sparse_elements(a, side, entry, symbol, raw, row_step):
    """[9.2], [9.3] In f32, one operation at a time."""
    at = np.arange(len(entry))
    if a.flags & CENTROIDS:
        w = side.centroid[entry].astype(np.float32)
    else:
        k = index_of(a, symbol, raw)
        level = 2 * k - np.sign(k) * (entry // 32) if a.log2_states else k
        number = np.sign(level) * prime_grid()[np.abs(level)] if a.grid else level
        w = number.astype(np.float32) * np.uint32(a.step_bits).view(np.float32)
    if row_step is not None:
        w = w * step_factor(row_step)[at // a.row_len]
    if a.flags & COLUMN_STEPS:
        w = w * step_factor(side.column_step)[at % a.row_len]
    if a.dtype != BF16:
        return w.astype("<f4" if a.dtype == F32 else "<f2")
    bits = w.view(np.uint32)                    # never those of a NaN: the sum is below 2^32
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")


# ---- Command line -------------------------------------------------------------------------------

def write(upg, directory):
    """Never overwrites: two paths that a file system takes for one are an error, not a loss."""
    for path, file in upg.presented():
        parts = path.split("/")
        need(all(os.path.basename(part) == part and not os.path.splitdrive(part)[0]
                 for part in parts), f"{path!r} is no path on this system")
        target = os.path.join(directory, *parts)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "xb") as out:
            for data in upg.content(path, file):
                out.write(data)


def main():
    parser = argparse.ArgumentParser(description="Decodes a UPG file, as docs/format.md says.")
    parser.add_argument("file", metavar="FILE")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--sha256", action="store_true",
                        help="print a line '<sha256>  <path>' for each file, in file order")
    action.add_argument("-o", dest="directory", metavar="DIR",
                        help="write the files below DIR, overwriting none")
    options = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    try:
        with open(options.file, "rb") as source:
            upg = Upg(source)
            if options.directory is not None:
                write(upg, options.directory)
            for path, file in upg.presented() if options.sha256 else ():
                digest = hashlib.sha256()
                for data in upg.content(path, file):
                    digest.update(data)
                print(f"{digest.hexdigest()}  {path}")
    except (FormatError, OSError) as error:
        sys.exit(f"{options.file}: {error}")


if __name__ == "__main__":
    main()
