#!/usr/bin/env python3
"""A decoder of UPG files, version 1, written from docs/format.md alone.

It shares nothing with the Rust code and is to be read beside the document: numbers in brackets,
like [7.2], are its sections, and names are the document's names. It checks every rule that the
document gives to a reader. It needs Python 3.10 and numpy; codec 1 also needs Python 3.14 or
libzstd.so.1. The parts are in scripts/reference/.
"""

import argparse
import hashlib
import os
import sys

from reference.archive import Upg
from reference.common import FormatError, need


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
