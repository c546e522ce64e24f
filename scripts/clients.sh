#!/usr/bin/env bash
# The programs that people load models with, tried on a mount:
#
#     scripts/clients.sh [--json FILE] [--markdown FILE] [CLIENT...]
#
# For each client a model is converted, losslessly and to 3.2 bits; the client loads it from the plain
# files that `upg unpack` writes and from a mount of the same .upg file, and must get the same: every
# tensor, and what the model answers. The table says so, with versions and seconds. Without CLIENTs it
# tries all of them. Exits with 1 if one failed or could not be installed.
#
# Each client has a virtual environment in target/clients (8 GB for all) with the packages in
# scripts/clients. UPG_BIN_DIR names programs that are built already, UPG_CANDLE that of examples/candle.
# What else is written lies below one temporary directory that is gone at the end, also after an error or
# an interrupt.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lists=$repo/scripts/clients
venvs=$repo/target/clients
. "$repo/scripts/common.sh"
. "$repo/scripts/clients/steps.sh"

all=(transformers transformers-4 safetensors diffusers fastsafetensors runai-model-streamer candle
    mlx-lm gguf vllm comfyui sentence-transformers)
work='' child=''
clients=() outputs=()

say() { printf '\n== %s\n' "$*"; }

# A signal must not wait for the step that runs, so steps are children of `wait`; each is the first of a
# group of processes, which ends as a whole: pip and the clients start others.
run() {
    set -m
    "$@" &
    set +m
    child=$!
    local status=0
    wait "$child" || status=$?
    child=''
    return "$status"
}

# unmount KIND
unmount() {
    if mountpoint -q "$work/mount/$1"; then "$bin/upg-mount" -u "$work/mount/$1"; fi
}

clean_up() {
    trap - EXIT
    trap '' INT TERM
    if [ -n "$child" ]; then
        kill -- "-$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    if [ -n "$work" ]; then
        for kind in lossless lossy; do
            unmount "$kind" || fusermount3 -u -z "$work/mount/$kind" || true
        done
        rm -rf --one-file-system "$work"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

usage() {
    echo "usage: scripts/clients.sh [--json FILE] [--markdown FILE] [CLIENT...]" >&2
    echo "clients: ${all[*]}" >&2
    exit 2
}

while [ "$#" -gt 0 ]; do
    case $1 in
        --json | --markdown)
            [ "$#" -gt 1 ] || usage
            outputs+=("$1" "$(realpath -- "$2")")
            shift
            ;;
        *)
            [[ " ${all[*]} " == *" $1 "* ]] || usage
            clients+=("$1")
            ;;
    esac
    shift
done
[ "${#clients[@]}" -gt 0 ] || clients=("${all[@]}")

say "Tools"
need_packages fusermount3=fuse3 python3=python3
[ -e /dev/fuse ] || { echo "no /dev/fuse: this machine cannot mount" >&2; exit 1; }
mkdir -p "$venvs"
run make_venv "$venvs/base" "$lists/base.txt"
base=$venvs/base/bin/python
target=${CARGO_TARGET_DIR:-$repo/target}
if [ -n "${UPG_BIN_DIR-}" ]; then
    bin=$(cd "$UPG_BIN_DIR" && pwd)
else
    bin=$target/release
    run cargo build --release --locked --manifest-path "$repo/Cargo.toml"
fi
if [ -z "${UPG_CANDLE-}" ] && [[ " ${clients[*]} " == *" candle "* ]]; then
    run cargo build --locked --manifest-path "$repo/examples/candle/Cargo.toml" --target-dir "$target"
fi
export UPG_CANDLE=${UPG_CANDLE:-$target/debug/upg-candle}

work=$(mktemp -d "${TMPDIR:-/tmp}/upg-clients.XXXXXX")
mkdir -p "$work/mount/"{lossless,lossy} "$work/models" "$work/results" "$work/home" "$work/tmp"
for name in "${clients[@]}"; do
    say "$name"
    started=$SECONDS
    try "$name" || echo "$name: failed, see below"
    echo "$((SECONDS - started)) s"
done

say "Clients"
"$base" "$repo/scripts/clients_table.py" "$work/results" "${outputs[@]}" "${clients[@]}"
