"""[6] to [9]: from stored bytes to elements."""

import functools
import math
from types import SimpleNamespace

import numpy as np

from .common import ceil_div, need
from .records import (
    BF16, CENTROIDS, COLUMN_STEPS, F32, F8_E4M3, F8_E5M2, LOSSLESS, PLAIN, ROW_CLASSES, ROW_STEPS,
    STORED, ZEROS, ZSTD, width_of, zero_bits,
)
from .zstandard import zstd_decoder


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
    zeros = zero_bits(a)
    below = a.split_shift - zeros               # D
    u = side.value[symbol] << a.split_shift
    u |= (raw & (1 << below) - 1) << zeros
    u |= raw >> below << a.split_shift << a.split_bits
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
    if a.dtype in (F8_E5M2, F8_E4M3):
        return round_to_eight_bits(w, 2 if a.dtype == F8_E5M2 else 3)
    if a.dtype != BF16:
        return w.astype("<f4" if a.dtype == F32 else "<f2")
    bits = w.view(np.uint32)                    # never those of a NaN: the sum is below 2^32
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")


def round_to_eight_bits(w, mantissa):
    """[9.3] Counts the steps of 2^(e - mantissa) in the magnitude, where 2^e is the power of two
    below it, but not below the least normal number. f64 holds all of it exactly."""
    least = -14 if mantissa == 2 else -6
    size = np.minimum(np.abs(w), np.float32(2**17)).astype(np.float64)
    e = np.maximum(np.where(size, np.frexp(size)[1] - 1, least), least)
    steps = np.rint(np.ldexp(size, mantissa - e))
    code = (e - least) * 2**mantissa + steps    # of a normal number, 2^mantissa steps are the 1.
    code = np.minimum(code, 0x7C if mantissa == 2 else 0x7F).astype(np.uint8)
    return code | np.signbit(w).astype(np.uint8) << 7
