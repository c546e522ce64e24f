"""[3], [4] A whole file: its ends, its index, its content."""

import math
import os
import struct

from .codecs import decode_block, read_side
from .common import FormatError, folded, le, naming, need
from .records import (
    ARRAYS, BITS, BLOCKS, END_MAGIC, EXTENTS, FEATURES, FILES, HEAD_MAGIC, HEAD_SIZE, HEAP,
    MODELS, NONE, PRIME_SPARSE, SECTIONS, TRAILER_SIZE, check_array, check_base, check_block,
    check_component, check_ranges, split_arrays, split_blocks, split_directory, split_extents,
    split_files, split_models, split_trailer, those_of, width_of,
)
from .xxh3 import xxh3


class Upg:
    """An open file whose header, trailer and index are checked."""

    def __init__(self, file):
        self.file = file
        self.read_index()
        refs = [ref for model in self.models for ref in (model.name, model.metadata)]
        refs += [file.path for file in self.files]
        refs += [ref for extent in self.extents for ref in (extent.name, extent.shape)]
        need(sum(length for _, length in refs) <= len(self.heap), "refs name more than HEAP has")
        for i, block in enumerate(self.blocks):
            with naming(f"block {i}"):
                check_block(block, self.index_offset)
        for i, array in enumerate(self.arrays):
            with naming(f"array {i}"):
                check_array(array, self.blocks)
                if array.base:
                    check_base(array, self.arrays[:i])
        need(self.models, "no model")
        check_ranges("MODELS", self.models, len(self.files))
        check_ranges("FILES", self.files, len(self.extents))
        names = [self.text(model.name) for model in self.models]
        need(len({folded(name) for name in names}) == len(names),
             "two models of one name, or of names that differ in case only")
        for name, model in zip(names, self.models):
            with naming(f"model {name!r}"):
                check_component(name)
                self.check_paths(model)
                self.text(model.metadata)
        for path, file in self.presented():
            with naming(path):
                need(file.size < 2**63, f"a size of {file.size} bytes")
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
        directory = end
        for s in sorted(sections, key=lambda s: (s.offset, s.length)):
            with naming(f"section {s.id}"):
                need(s.offset + s.length <= len(index), "not inside the index")
                need(s.offset >= (end if s.length else directory), "overlaps the directory or a section")
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
        directories, spelt = set(), {}
        paths = [self.text(file.path) for file in those_of(model, self.files)]
        for path in paths:
            need(len(path.encode()) <= 4095, "a path of more than 4095 bytes")
            parts = path.split("/")
            for end, part in enumerate(parts, 1):
                check_component(part)
                name = "/".join(parts[:end])
                need(spelt.setdefault(folded(name), name) == name,
                     f"{name!r} and {spelt[folded(name)]!r} differ in case only")
                if end < len(parts):
                    directories.add(name)
        need(len(set(paths)) == len(paths), "two files of one path")
        need(directories.isdisjoint(paths), "a file is a directory of another")

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
        """[4.6] The bytes of an array, block by block."""
        if a.base == 0:
            yield from self.decoded(a)
            return
        for data, base in zip(self.decoded(a), self.decoded(self.arrays[a.base - 1])):
            yield bytes(x ^ y for x, y in zip(data, base))

    def decoded(self, a):
        """What an array's blocks decode to."""
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
