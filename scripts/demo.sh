#!/usr/bin/env bash
# From a model to a mount, and what it costs:
#
#     scripts/demo.sh [--tiny | MODEL_DIR]
#
# Builds upg, converts the model (without one: a phi-4-shaped one of 386 MB, or of 3 MB),
# mounts the result, loads every tensor through the mount with the safetensors package and
# compares. Everything it writes, except target/, is below one temporary directory
# that is gone at the end, also after an error or an interrupt. Programs that are there
# already are taken from $UPG_BIN_DIR, and from $UPG_PYTHON a Python that has the packages.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repo/scripts/common.sh"

bits=3.2
work= mountpoint= child=

say() { printf '\n== %s\n' "$*"; }

# A signal must not wait for the step that runs, so steps are children of `wait`.
run() {
    "$@" &
    child=$!
    local status=0
    wait "$child" || status=$?
    child=
    return "$status"
}

unmount() {
    mountpoint -q "$mountpoint" || return 0
    "$bin/upg-mount" -u "$mountpoint" || fusermount3 -u -z "$mountpoint"
}

clean_up() {
    trap - EXIT
    trap '' INT TERM
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    if [ -n "$mountpoint" ]; then unmount || true; fi
    if [ -n "$work" ]; then rm -rf --one-file-system "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

size=(--layers 2 --hidden 2048 --intermediate 7168 --vocab 20480 --shard-size 150M)
if [ "${1-}" = --tiny ]; then
    size=(--tiny)
    shift
fi
if [ "$#" -gt 1 ] || [[ ${1-} == -* ]]; then
    echo "usage: scripts/demo.sh [--tiny | MODEL_DIR]" >&2
    exit 2
fi
source=${1-}
if [ -n "$source" ]; then
    source=$(cd "$source" && pwd)
fi

say "Tools"
need_packages fusermount3=fuse3 getfattr=attr python3=python3
[ -e /dev/fuse ] || { echo "no /dev/fuse: this machine cannot mount" >&2; exit 1; }
find_programs run

started=$SECONDS
work=$(mktemp -d "${TMPDIR:-/tmp}/upg-demo.XXXXXX")
if [ -z "$source" ]; then
    say "A model shaped like phi-4, but smaller"
    source=$work/phi-4-small
    run "$python" "$repo/scripts/make_model.py" "$source" "${size[@]}"
fi
ls -l "$source"

say "upg convert --bits $bits"
run "$bin/upg" convert "$source" -o "$work/model.upg" --bits "$bits"

say "upg-mount"
mkdir "$work/mount"
mountpoint=$work/mount
run "$bin/upg-mount" "$work/model.upg" "$mountpoint"
ls -l "$mountpoint"
echo "du says $(du -sh "$mountpoint" | cut -f1), the .upg file has $(du -h "$work/model.upg" | cut -f1)"

say "Every tensor through the mount, beside the source"
run "$python" "$repo/scripts/compare_mount.py" "$source" "$mountpoint" "$work/model.upg"

say "getfattr -d -m user.upg MOUNT"
run getfattr --absolute-names -d -m user.upg "$mountpoint"

say "Unmounted"
unmount
mountpoint=
rm -rf --one-file-system "$work"
work=
echo "nothing left behind; $((SECONDS - started)) s after the build"
