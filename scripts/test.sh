#!/usr/bin/env bash
# Every check there is, on a fresh clone:
#
#     scripts/test.sh [PYTEST ARGUMENT...]
#
# Installs what the tests need (Debian packages if root, Python packages into
# target/test-venv), then formats, lints, builds, and runs the tests in Rust and the
# ones in Python. The last line counts them: `N passed, N failed, N skipped`; a check
# without tests of its own (format, lint, documentation) counts as one failure if it
# fails. With CI=true nothing may be skipped for what the machine lacks.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repo/scripts/common.sh"
cd "$repo"

target=${CARGO_TARGET_DIR:-$repo/target}
venv=$repo/target/test-venv
logs=$target/test-logs
mkdir -p "$logs" "$repo/target"

passed=0 failed=0 skipped=0
summary=()

say() { printf '\n== %s\n' "$*"; }

# check NAME COMMAND...: runs it, keeps going after a failure, remembers the outcome.
check() {
    local name=$1 start=$SECONDS status=0 result=ok
    shift
    say "$name"
    "$@" || status=$?
    [ "$status" = 0 ] || result=FAILED
    summary+=("$(printf '%-28s %-7s %4d s' "$name" "$result" $((SECONDS - start)))")
    return "$status"
}

count() { passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3)); }

# Adds up all test binaries; a test that is ignored on purpose is a skipped one.
# Fails if one of the tests did.
count_cargo() {
    local ok=0 bad=0 ignored=0 a b c
    while read -r a b c; do
        ok=$((ok + a)) bad=$((bad + b)) ignored=$((ignored + c))
    done < <(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$1")
    count "$ok" "$bad" "$ignored"
    [ "$bad" = 0 ]
}

cargo_tests() {
    cargo test --release --locked --no-fail-fast 2>&1 | tee "$logs/cargo-test"
}

python_tests() {
    # A mount that hangs must not hold the run for ever.
    UPG_BIN_DIR=$target/release PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=30 1200 \
        "$venv/bin/python" -m pytest tests/python --junitxml="$logs/pytest.xml" "$@"
}

# passed, failed, skipped of a JUnit report.
junit_counts() {
    python3 - "$1" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree

suites = list(tree.parse(sys.argv[1]).getroot().iter("testsuite"))
total, failures, errors, skipped = (
    sum(int(s.get(k, 0)) for s in suites) for k in ("tests", "failures", "errors", "skipped")
)
print(total - failures - errors - skipped, failures + errors, skipped)
PYTHON
}

need_packages fusermount3=fuse3 getfattr=attr cc=gcc pkg-config=pkg-config python3=python3

# Downloading takes as long as compiling: both at once.
make_venv "$venv" tests/python/requirements.txt >"$logs/venv" 2>&1 &
making_venv=$!
trap 'kill "$making_venv" 2>/dev/null || true' EXIT

check "cargo fmt --check" cargo fmt --check || count 0 1 0
check "cargo clippy" cargo clippy --all-targets --locked -- -D warnings || count 0 1 0
check "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked || count 0 1 0
check "cargo build --release" cargo build --release --locked || count 0 1 0

: >"$logs/cargo-test"
status=0
check "cargo test --release" cargo_tests || status=$?
if count_cargo "$logs/cargo-test" && [ "$status" != 0 ]; then
    count 0 1 0 # it did not compile, or a test ended its process
fi

rm -f "$logs/pytest.xml"
if ! check "Python packages" wait "$making_venv"; then
    cat "$logs/venv" >&2
    if [ "${CI-}" = true ]; then count 0 1 0; else count 0 0 1; fi
else
    status=0
    check "pytest tests/python" python_tests "$@" || status=$?
    a=0 b=0 c=0
    if [ -s "$logs/pytest.xml" ]; then read -r a b c < <(junit_counts "$logs/pytest.xml"); fi
    if [ "$status" != 0 ] && [ "$b" = 0 ]; then b=1; fi # killed, or nothing to run
    count "$a" "$b" "$c"
fi

say "Summary"
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
