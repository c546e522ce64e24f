"""Random weights, distributed as trained ones are: Gaussian within a row, rows that differ in scale,
rare outliers of up to 100 sigma; in BF16 and F32, and packed as FP8 and MXFP4 models have them."""

import math
import zlib

import numpy as np

# A thread holds two arrays of four bytes per weight of one chunk.
CHUNK_WEIGHTS = 1 << 20

# Outliers: this share of the weights has a magnitude of 4 u^(-1/3) sigma (Pareto
# with exponent 3, cut at 100 sigma): 1 in 10^5 exceeds 10 sigma, 1 in 10^7 50.
OUTLIER_SHARE = 2e-4
OUTLIER_SMALLEST = 4.0
OUTLIER_LARGEST = 100.0

# Standard deviation at hidden size 5120, and coefficient of variation of the rows' scales.
KINDS = {
    "embed_tokens": (0.030, 0.30),
    "lm_head": (0.018, 0.30),
    "qkv_proj": (0.022, 0.15),
    "o_proj": (0.017, 0.12),
    "gate_up_proj": (0.019, 0.10),
    "down_proj": (0.016, 0.10),
}
ANY_MATRIX = (0.020, 0.12)
# Mean and standard deviation of what is no matrix; no outliers.
PLAIN = {
    "norm": (1.0, 0.1),
    "norm less 1": (0.0, 0.1),
    "bias": (0.0, 0.02),
    "sinks": (0.0, 1.0),
}

FP8_BLOCK = 128
FP8_LARGEST = 448.0
MXFP4_GROUP = 32
# Half-way between the magnitudes of E2M1, which are 0, 0.5, 1, 1.5, 2, 3, 4 and 6.
MXFP4_BOUNDS = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)


def random_stream(seed, tensor, part):
    """Every part of every tensor has a stream of its own: any thread may draw it."""
    key = [seed, zlib.crc32(tensor.name.encode()), part]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def row_scales(seed, tensor, hidden):
    """The standard deviation of each row; None for what is no matrix."""
    if tensor.kind in PLAIN:
        return None
    sigma, variation = KINDS.get(tensor.kind, ANY_MATRIX)
    random = random_stream(seed, tensor, 0)
    # No two matrices of a kind are quite alike, and narrow models have larger weights.
    sigma *= math.exp(0.15 * random.standard_normal()) * math.sqrt(5120 / hidden)
    spread = math.sqrt(math.log1p(variation**2))
    rows = random.standard_normal(tensor.shape[0])
    return (sigma * np.exp(spread * rows - spread**2 / 2)).astype(np.float32)


def add_outliers(values, random):
    count = random.poisson(OUTLIER_SHARE * values.size)
    where = random.integers(0, values.size, count)
    size = OUTLIER_SMALLEST * (1 - random.random(count)) ** (-1 / 3)
    size = np.minimum(size, OUTLIER_LARGEST) * random.choice((-1.0, 1.0), count)
    values.reshape(-1)[where] = size


def draw_values(seed, tensor, scales, first_row, rows, part):
    random = random_stream(seed, tensor, part)
    values = random.standard_normal((rows, tensor.columns), dtype=np.float32)
    if scales is None:
        mean, spread = PLAIN[tensor.kind]
        values *= spread
        values += mean
    else:
        add_outliers(values, random)
        values *= scales[first_row : first_row + rows, None]
    return values


def draw(seed, tensor, scales, first_row, rows, part):
    """The elements of these rows of a BF16 or F32 tensor."""
    values = draw_values(seed, tensor, scales, first_row, rows, part)
    return values if tensor.dtype == "F32" else to_bf16(values)


def draw_packed(seed, tensor, hidden):
    """All elements of a tensor that is made from a matrix."""
    matrix = tensor.matrix
    values = draw_values(seed, matrix, row_scales(seed, matrix, hidden), 0, matrix.shape[0], 1)
    return np.ascontiguousarray(tensor.pack(values))


def chunks(tensor):
    """(first row, rows, part): whole rows, independent of the number of threads."""
    step = max(1, CHUNK_WEIGHTS // tensor.columns)
    starts = range(0, tensor.shape[0], step)
    return [(a, min(step, tensor.shape[0] - a), i + 1) for i, a in enumerate(starts)]


def to_bf16(values):
    """The upper halves, rounded to nearest even. Overwrites its argument."""
    bits = values.view(np.uint32)
    odd = bits >> 16
    odd &= 1
    odd += 0x7FFF
    bits += odd
    return bits.view(np.uint16).reshape(-1)[1::2].copy()


def to_e4m3(values):
    """As F8_E4M3, rounded to nearest even; none may be beyond 448."""
    magnitude = np.abs(values)
    # Of a number in [2^e, 2^(e + 1)), e + 1; below 2^-6 all numbers are as far apart.
    exponent = np.frexp(np.maximum(magnitude, np.float32(2**-6)))[1]
    eighths = np.rint(np.ldexp(magnitude, 4 - exponent)).astype(np.int32)
    # 8 to 15 eighths with an exponent of its own, 16 of them are the next one's 8.
    code = (exponent + 5 << 3) + eighths
    return (code | np.signbit(values).astype(np.int32) << 7).astype(np.uint8)


def fp8_scales(values):
    """The largest magnitude of each block of 128 x 128 over 448, as F32."""
    starts = (np.arange(0, size, FP8_BLOCK) for size in values.shape)
    rows, columns = starts
    largest = np.maximum.reduceat(np.abs(values), rows, axis=0)
    return np.maximum.reduceat(largest, columns, axis=1) / np.float32(FP8_LARGEST)


def fp8_elements(values):
    scales = fp8_scales(values)
    each = scales.repeat(FP8_BLOCK, 0).repeat(FP8_BLOCK, 1)
    each = each[: values.shape[0], : values.shape[1]]
    return to_e4m3(np.clip(values / each, -FP8_LARGEST, FP8_LARGEST))


def mxfp4_exponents(values):
    """A power of two per group of 32, so that the largest of the group is 4 to 8 times that."""
    groups = np.abs(values).reshape(-1, MXFP4_GROUP)
    return np.frexp(groups.max(axis=1))[1] - 3


def mxfp4_scales(values):
    """As E8M0: a biased exponent in a byte."""
    return (mxfp4_exponents(values) + 127).astype(np.uint8)


def mxfp4_blocks(values):
    """As E2M1, two in a byte, the first in the lower half; what is beyond 6 becomes 6."""
    groups = values.reshape(-1, MXFP4_GROUP)
    scaled = np.ldexp(groups, -mxfp4_exponents(values)[:, None])
    code = np.searchsorted(MXFP4_BOUNDS, np.abs(scaled)) | np.signbit(scaled) << np.uint8(3)
    return (code[:, 0::2] | code[:, 1::2] << 4).astype(np.uint8)
