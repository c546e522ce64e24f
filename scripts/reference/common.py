"""What all parts of the reference decoder use."""

from contextlib import contextmanager


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


def folded(text):
    """The text with ASCII letters in one case."""
    return "".join(c.lower() if "A" <= c <= "Z" else c for c in text)
