#!/usr/bin/env bash
# A model of full size through everything, and what it takes:
#
#     scripts/bench_full.sh [-d DIRECTORY] [-o FILE] [-t THREADS] [MODEL_DIR]
#
# Converts the model (without one: phi-4's 243 tensors, 29.3 GB, which scripts/make_model.py makes),
# verifies it beside its source, reads all of it through a mount, and unpacks it; beside a plain copy of
# the same bytes. The page cache is emptied before each step, if this is run by root. Writes below
# DIRECTORY (by default a temporary one, where three times the model must fit), all of which is gone at
# the end, and the figures to FILE (target/bench-full.json), a line for each step: seconds, most memory,
# bytes. $UPG_BIN_DIR and $UPG_PYTHON as for demo.sh.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repo/scripts/common.sh"

directory=${TMPDIR:-/tmp} figures=$repo/target/bench-full.json threads=$(nproc) work= mountpoint=
while getopts d:o:t: option; do
    case $option in
        d) directory=$OPTARG ;;
        o) figures=$OPTARG ;;
        t) threads=$OPTARG ;;
        *) echo "usage: bench_full.sh [-d DIRECTORY] [-o FILE] [-t THREADS] [MODEL_DIR]" >&2 && exit 2 ;;
    esac
done
shift $((OPTIND - 1))

clean_up() {
    if [ -n "$mountpoint" ] && mountpoint -q "$mountpoint"; then "$bin/upg-mount" -u "$mountpoint" || true; fi
    if [ -n "$work" ]; then rm -rf --one-file-system "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

need_packages fusermount3=fuse3 python3=python3
find_programs
mkdir -p "$(dirname "$figures")"
rm -f "$figures"

work=$(mktemp -d "$directory/upg-full.XXXXXX")
source=${1-}
if [ -z "$source" ]; then
    source=$work/phi-4
    "$python" "$repo/scripts/make_model.py" "$source"
fi
bytes=$(stat -L -c %s "$source"/*.safetensors | awk '{ sum += $1 } END { printf "%.0f", sum }')

# step NAME BYTES COMMAND...: runs it, and notes what it took.
step() {
    local name=$1 moved=$2
    shift 2
    sync
    if [ -w /proc/sys/vm/drop_caches ]; then echo 3 >/proc/sys/vm/drop_caches; fi
    "$python" "$repo/scripts/measure/step.py" "$figures" "$name" "$moved" -- "$@"
}

hash='cd "$0" && find . -type f -print0 | sort -z | xargs -0 sha256sum >"$1"'

step "plain copy" "$bytes" bash -c 'cp -r "$0" "$1" && sync -f "$1"' "$source" "$work/copy"
rm -rf "$work/copy"
step "catalog" 0 "$bin/upg" catalog "$source"
step "convert" "$bytes" "$bin/upg" convert "$source" -o "$work/model.upg" --threads "$threads"
step "verify" "$bytes" "$bin/upg" verify "$work/model.upg" --threads "$threads"
step "verify --against" "$bytes" "$bin/upg" verify "$work/model.upg" --against "$source" --threads "$threads"
mkdir "$work/mount"
mountpoint=$work/mount
"$bin/upg-mount" "$work/model.upg" "$mountpoint"
step "sha256 through the mount" "$bytes" bash -c "$hash" "$mountpoint" "$work/mounted"
"$bin/upg-mount" -u "$mountpoint"
mountpoint=
step "unpack" "$bytes" "$bin/upg" unpack "$work/model.upg" -o "$work/unpacked" --threads "$threads"
step "sha256 of plain files" "$bytes" bash -c "$hash" "$work/unpacked" "$work/sums"
cmp "$work/mounted" "$work/sums"
echo "what was unpacked is what was mounted; $(stat -c %s "$work/model.upg") bytes for $bytes, in $figures"
