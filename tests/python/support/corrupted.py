"""Reading files that may have lost bytes."""

import errno
import os


def read_pieces(path, content, flags=os.O_DIRECT, piece=256 << 10):
    """(lost, wrong): offsets of the pieces that gave EIO, and of those that gave other bytes."""
    fd, lost, wrong = os.open(path, os.O_RDONLY | flags), [], []
    try:
        for offset in range(0, len(content), piece):
            got = b""
            try:
                # Up to a page that is lost, the kernel gives what it has.
                while len(got) < len(content[offset : offset + piece]):
                    more = os.pread(fd, piece - len(got), offset + len(got))
                    assert more, f"the file ends at {offset + len(got)}"
                    got += more
            except OSError as failure:
                assert failure.errno == errno.EIO
                lost.append(offset)
            if not content.startswith(got, offset):
                wrong.append(offset)
    finally:
        os.close(fd)
    return lost, wrong
