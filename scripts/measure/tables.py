"""Tables in markdown, and where a measured curve reaches a value."""

import math


def markdown(head, rows):
    """Columns as wide as their widest cell; all but the first aligned to the right."""
    cells = [head, *rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row):
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def small(value):
    """Two or three digits of a number that may be tiny."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    digits = max(3, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 7)}f}"


def bits_at(curve, kld):
    """Bits at which a curve of (bits, KLD) has this KLD: on a line between neighbours, with
    the KLD on a log scale. None outside the curve, where nothing was measured."""
    points = sorted((b, math.log(k)) for b, k in curve if k > 0)
    wanted = math.log(kld) if kld > 0 else -math.inf
    for (b0, k0), (b1, k1) in zip(points, points[1:]):
        if k0 >= wanted >= k1:
            return b0 if k0 == k1 else b0 + (b1 - b0) * (k0 - wanted) / (k0 - k1)
    return None
