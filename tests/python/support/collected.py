"""Names of tests, without running them: `python -m support.collected FILE...`, in tests/python.

A line of JSON for each: its id, and the outcome that it expects if its cases are a table of
attempts and outcomes."""

import contextlib
import io
import json
import sys

import pytest


class Names:
    def __init__(self):
        self.found = []

    def pytest_collection_finish(self, session):
        for item in session.items:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            self.found.append({"id": item.nodeid, "expected": parameters.get("expected")})


def main():
    names, said = Names(), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--collect-only", "-q", *sys.argv[1:]], plugins=[names])
    if code != 0:
        sys.exit(said.getvalue())
    for name in names.found:
        print(json.dumps(name))


if __name__ == "__main__":
    main()
