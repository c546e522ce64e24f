#!/usr/bin/env bash
# Feeds upg with what a fuzzer thinks of, under AddressSanitizer:
#
#     scripts/fuzz.sh [SECONDS PER TARGET] [TARGET...]
#
# The targets are those of fuzz/fuzz_targets, all of them by default, one after the other
# (600 seconds each by default). Needs a nightly toolchain and cargo-fuzz
# (`cargo install cargo-fuzz`). What is found is kept in fuzz/corpus, which begins with
# seeds made from tests/golden; an input that fails is left in fuzz/artifacts, and
# `cargo +nightly fuzz run TARGET FILE` shows it again. Fails if there is one.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo/fuzz"

seconds=${1:-600}
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(block index search)

# Files of a golden size reach most of the index; weights and blocks need few bytes.
declare -A longest=([block]=30000 [index]=400000 [search]=20000)

# Not a target, but built as one: then nothing is built twice.
cargo +nightly fuzz build seeds
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
ASAN_OPTIONS=detect_leaks=0 "target/$host/release/seeds" corpus ../tests/golden

status=0
for target in "${targets[@]}"; do
    printf '\n== %s, %s seconds\n' "$target" "$seconds"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len="${longest[$target]}" \
        -len_control=0 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 || status=1
done
exit "$status"
