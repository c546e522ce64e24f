#!/usr/bin/env bash
# Feeds upg with what a fuzzer thinks of, under AddressSanitizer:
#
#     scripts/fuzz.sh [SECONDS PER TARGET] [TARGET...]
#
# The targets are those of fuzz/fuzz_targets, all of them by default, one after the other
# (900 seconds each by default). Needs a nightly toolchain and cargo-fuzz
# (`cargo install cargo-fuzz`). What is found is kept in fuzz/corpus, which begins with
# seeds made from tests/golden and the committed corpora; an input that fails is left in
# fuzz/artifacts, and `cargo +nightly fuzz run --features fuzzer TARGET FILE` shows it again.
# Fails if there is one. UPG_FUZZ_TIMEOUT: after how many seconds an input has hung (120).
#
#     cargo test --release --locked --manifest-path fuzz/Cargo.toml
#
# runs the committed corpora once, on any toolchain. To commit what was found:
#
#     cargo +nightly fuzz cmin --features fuzzer TARGET
#     cargo run --release --manifest-path fuzz/Cargo.toml --bin pack TARGET fuzz/corpus/TARGET
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo/fuzz"

seconds=${1:-900}
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(block convert index read search shard)

# Files of a golden size reach most of the index; weights and blocks need few bytes.
declare -A longest=([block]=30000 [convert]=2000 [index]=400000 [read]=60000 [search]=20000 [shard]=8000)

# Not a target, but built as one: then nothing is built twice.
cargo +nightly fuzz build --features fuzzer seeds
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
ASAN_OPTIONS=detect_leaks=0 "target/$host/release/seeds" corpus ../tests/golden ../tests/bad

status=0
for target in "${targets[@]}"; do
    printf '\n== %s, %s seconds\n' "$target" "$seconds"
    dictionary=()
    [ ! -f "dictionaries/$target.dict" ] || dictionary=("-dict=dictionaries/$target.dict")
    # The threads of a conversion's pool may end after it, and what they hold is no leak.
    leaks=1
    [ "$target" != convert ] || leaks=0
    ASAN_OPTIONS=detect_leaks=$leaks cargo +nightly fuzz run --features fuzzer "$target" -- \
        -max_total_time="$seconds" -max_len="${longest[$target]}" -len_control=0 -timeout="${UPG_FUZZ_TIMEOUT:-120}" \
        -rss_limit_mb=2048 -print_final_stats=1 "${dictionary[@]}" || status=1
done
exit "$status"
