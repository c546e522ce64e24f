"""[2] XXH3, 64 bits, seed 0."""

import numpy as np

from .common import ceil_div, le

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
