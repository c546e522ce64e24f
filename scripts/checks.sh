# Shared by test.sh and soak.sh: checks that go on after a failure and are counted.
# shellcheck shell=bash

passed=0 failed=0 skipped=0
outcomes=()

say() { printf '\n== %s\n' "$*"; }

# check NAME COMMAND...: runs it, keeps going after a failure, remembers the outcome.
check() {
    local name=$1 start=$SECONDS status=0 result=ok
    shift
    say "$name"
    "$@" || status=$?
    [ "$status" = 0 ] || result=FAILED
    outcomes+=("$(printf '%-28s %-7s %4d s' "$name" "$result" $((SECONDS - start)))")
    return "$status"
}

# What the tests in Python run: the programs and the examples.
build_programs() {
    cargo build --release --locked --bins --examples &&
        cargo build --locked --manifest-path examples/candle/Cargo.toml --target-dir "$1"
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

# python_tests VENV BINARIES REPORT SECONDS [PYTEST ARGUMENT...]: the tests in Python, and counts them.
# A mount that hangs must not hold the run for ever.
python_tests() {
    local venv=$1 binaries=$2 report=$3 seconds=$4 status=0 a=0 b=0 c=0
    shift 4
    rm -f "$report"
    UPG_BIN_DIR=$binaries PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=30 "$seconds" \
        "$venv/bin/python" -m pytest tests/python --junitxml="$report" "$@" || status=$?
    if [ -s "$report" ]; then read -r a b c < <(junit_counts "$report"); fi
    if [ "$status" != 0 ] && [ "$b" = 0 ]; then b=1; fi # killed, or nothing to run
    count "$a" "$b" "$c"
    return "$status"
}

# The last words: what was run, and `N passed, N failed, N skipped`.
summary() {
    say "Summary"
    printf '%s\n' "${outcomes[@]}"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}
