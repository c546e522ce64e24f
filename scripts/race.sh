#!/usr/bin/env bash
# Looks for races, in two ways:
#
#     scripts/race.sh [schedules] [tsan]     (both by default)
#
# schedules: the cache and what decodes ahead under a checker of schedules (schedules/), for
# UPG_SCHEDULE_SECONDS seconds (60) per test and kind of schedule, other ones each time. What
# fails prints its schedule; UPG_SCHEDULE=... cargo test --release --workspace --test cache TEST
# goes through it again.
#
# tsan: the programs are built with ThreadSanitizer into target/tsan, and the mount's tests and
# those tests in Rust that start threads are run with them once. Needs a nightly toolchain with
# rust-src (`rustup toolchain install nightly --component rust-src`), as the standard library
# has to be built, too. Reports are left in target/tsan/reports. PYTHON names a Python that has
# tests/python/requirements.txt, if the one that scripts/test.sh makes is not to be used.
#
# Fails if anything is found.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repo/scripts/common.sh"
cd "$repo"

# They mount nothing, or what others mount, too (families, infer), or depend on what the sanitizer
# changes: memory (test_soak), addresses, of which it takes terabytes (faults_memory), speed.
left_out=(
    bad_sources bench_scripts catalog clients compare_lossless convert convert_ray documented_commands
    examples families faults_memory fleets generate infer like make_model parts quality rates soak
)

# Under it decoding is too slow for what is to be pushed before its reader. A daemon has a file of the
# sanitizer's, and a thread once it had one of its own: then it may not enter a mount namespace, and the
# second thread is not the one that a test has fail. Of two signals at once the kernel gives the second to
# any thread, and the sanitizer keeps it back until that thread does something.
cannot='not (throws_out or makes_no_file or in_another_namespace or fails_after_mounting or hanging_up)'

schedules() {
    # As part of the workspace, so that nothing is built that scripts/test.sh has not built.
    UPG_LONG=1 cargo test --release --locked --workspace --test cache --test readahead -- --nocapture
}

tsan() {
    # Once is enough, and long forms would take a day: the sanitizer makes all ten times as slow.
    unset UPG_LONG
    local host source target status=0
    if ! host=$(rustc +nightly -vV 2>/dev/null | sed -n 's/^host: //p') || [ -z "$host" ]; then
        echo "race.sh: ThreadSanitizer needs a nightly toolchain: rustup toolchain install nightly" >&2
        return 1
    fi
    source=$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock
    if [ ! -f "$source" ]; then
        echo "race.sh: ThreadSanitizer needs the standard library's source:" \
            "rustup component add rust-src --toolchain nightly" >&2
        return 1
    fi
    target=$repo/target/tsan
    export CARGO_TARGET_DIR=$target RUSTFLAGS=-Zsanitizer=thread UPG_TSAN=1
    # zstd, which is C.
    export "CFLAGS_${host//-/_}=-fsanitize=thread"
    local build=(cargo +nightly test --release --locked -Zbuild-std --target "$host" --lib --test suite)
    "${build[@]}" --no-run

    need_packages llvm-symbolizer=llvm
    rm -rf "$target/reports"
    mkdir -p "$target/reports"
    # One thread of fuser's is never joined (mount/session). A daemon forks before it has threads.
    export TSAN_OPTIONS="log_path=$target/reports/of halt_on_error=0 report_thread_leaks=0"
    TSAN_OPTIONS+=" die_after_fork=0 atexit_sleep_ms=0 suppressions=$target/suppressions"
    # tokio registers connections with a copy of the descriptor of epoll that it waits with. The kernel
    # orders the two; the sanitizer does not know that they are one.
    echo race:tokio::runtime::io::driver >"$target/suppressions"
    # To know what to suppress, it starts a program that must not keep a test's pipe open.
    local symbolizer=$target/llvm-symbolizer
    printf '#!/bin/sh\nexec %q "$@" 2>/dev/null\n' "$(command -v llvm-symbolizer)" >"$symbolizer"
    chmod +x "$symbolizer"
    TSAN_OPTIONS+=" external_symbolizer_path=$symbolizer"
    "${build[@]}" -- cache:: readahead:: decoded:: convert:: bench:: object:: || status=1

    local python=${PYTHON-} ignored=()
    if [ -z "$python" ]; then
        make_venv "$repo/target/test-venv" tests/python/requirements.txt
        python=$repo/target/test-venv/bin/python
    fi
    for name in "${left_out[@]}"; do ignored+=("--ignore=tests/python/test_$name.py"); done
    UPG_BIN_DIR=$target/$host/release PYTHONDONTWRITEBYTECODE=1 \
        "$python" -m pytest tests/python "${ignored[@]}" -k "$cannot" -o timeout=1200 || status=1

    if [ -n "$(ls "$target/reports")" ]; then
        cat "$target"/reports/*
        echo "race.sh: $(ls "$target/reports" | wc -l) processes with reports, in $target/reports" >&2
        return 1
    fi
    return "$status"
}

parts=("$@")
[ "${#parts[@]}" -gt 0 ] || parts=(schedules tsan)
status=0
for part in "${parts[@]}"; do
    case $part in
        schedules | tsan) printf '\n== %s\n' "$part" ;;
        *) echo "usage: race.sh [schedules] [tsan]" >&2 && exit 2 ;;
    esac
    ("$part") || status=1
done
exit "$status"
