#!/usr/bin/env bash
# The tests' long forms, about two hours on two cores:
#
#     scripts/soak.sh [SECONDS PER FUZZ TARGET]
#
# The fuzzers (15 minutes per target unless said otherwise) run beside the rest: every
# test in Python with more rounds, more readers and more faults (UPG_LONG=1), then the
# models of the concurrent parts and the mount's tests under ThreadSanitizer
# (scripts/race.sh), and the packages (scripts/check_packages.sh). Needs root, /dev/fuse,
# and for the fuzzers and sanitizers a nightly toolchain with rust-src and cargo-fuzz; what
# is missing counts as a failure. The last line counts: `N passed, N failed, N skipped`, a
# fuzz target being one.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repo/scripts/common.sh"
. "$repo/scripts/checks.sh"
cd "$repo"

target=${CARGO_TARGET_DIR:-$repo/target}
venv=$repo/target/test-venv
logs=$target/soak-logs
mkdir -p "$logs"

need_packages fusermount3=fuse3 getfattr=attr cc=gcc pkg-config=pkg-config python3=python3 man=man-db zsh=zsh fish=fish \
    rsync=rsync strace=strace curl=curl systemd-analyze=systemd lintian=lintian
make_venv "$venv" tests/python/requirements.txt
build_programs "$target"
# Not beside the tests, which would leave it little of the processors.
(cd fuzz && cargo +nightly fuzz build --features fuzzer)

# What takes 15 seconds of a processor may take minutes beside tests that load the machine.
UPG_FUZZ_TIMEOUT=600 nice -n 10 scripts/fuzz.sh "${1:-900}" >"$logs/fuzz" 2>&1 &
fuzzing=$!
trap 'pkill -P "$fuzzing" 2>/dev/null; kill "$fuzzing" 2>/dev/null || true' EXIT

export UPG_LONG=1 CI=true
check "pytest tests/python, long" python_tests "$venv" "$target/release" "$logs/pytest.xml" 7200 -o timeout=3600 || true
if check "scripts/race.sh" scripts/race.sh; then count 1 0 0; else count 0 1 0; fi
packages() { scripts/check_packages.sh "$venv/bin/python"; }
if check "scripts/check_packages.sh" packages; then count 1 0 0; else count 0 1 0; fi
fuzzers() {
    local status=0
    wait "$fuzzing" || status=$?
    tail -n 40 "$logs/fuzz"
    return "$status"
}
if check "scripts/fuzz.sh" fuzzers; then count "$(grep -c '^== ' "$logs/fuzz")" 0 0; else count 0 1 0; fi

summary
