#!/usr/bin/env bash
# Whether the packages of scripts/package.sh do what they are for:
#
#     scripts/check_packages.sh [PYTHON]
#
# Makes them twice and compares. Installs the wheel into a new virtual environment, the Debian package
# into a tree of its own, and the programs by `cargo install`; with each, converts a small model, mounts
# the result, and compares what the mount shows with the source. The Debian package's /usr is laid over
# this machine's in a mount namespace, where mount(8), man(1) and bash then find what is in it. PYTHON has
# numpy (python3 unless said otherwise). Needs root and /dev/fuse.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${1:-python3}
cd "$repo"

say() { printf '\n== %s\n' "$*"; }
fail() { echo "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] || fail "needs root and /dev/fuse"

work=$(mktemp -d "${TMPDIR:-/tmp}/upg-packages.XXXXXX")
clean_up() {
    if mountpoint -q "$work/mount"; then umount -l "$work/mount"; fi
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
mkdir "$work/mount"

# try_programs UPG UPG_MOUNT: from a model to a mount that has the same files.
try_programs() {
    rm -f "$work/model.upg"
    "$1" convert "$work/model" -o "$work/model.upg" --lossless >/dev/null
    "$2" "$work/model.upg" "$work/mount"
    diff -r "$work/model" "$work/mount"
    "$2" -u "$work/mount"
    if readelf --sections "$1" "$2" | grep '\.debug_line' >/dev/null; then fail "$1 or $2 has line tables"; fi
    "$1" --version
}

say "Packages, twice"
scripts/package.sh "$work/first"
scripts/package.sh "$work/second" >/dev/null
diff -r "$work/first" "$work/second"
wheel=$(echo "$work"/first/upg-*.whl)
deb=$(echo "$work"/first/upg_*.deb)
"$python" scripts/make_model.py "$work/model" --tiny

say "$(basename "$wheel")"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index "$wheel"
try_programs "$work/venv/bin/upg" "$work/venv/bin/upg-mount"
for file in man/man1/upg-convert.1 bash-completion/completions/upg doc/upg/third-party-licences; do
    [ -s "$work/venv/share/$file" ] || fail "the wheel has no share/$file"
done
"$work/venv/bin/python" -m pip show --verbose upg | grep -E '^(License-Expression: |  Operating System)'
"$work/venv/bin/python" -m pip uninstall --quiet --yes upg
[ ! -e "$work/venv/bin/upg" ] || fail "upg is there after pip uninstall"

say "$(basename "$deb")"
tree=$work/tree
mkdir -p "$tree"/var/lib/dpkg/{info,updates}
touch "$tree"/var/lib/dpkg/{status,available}
# What it depends on is this machine's, which may be set up to leave manual pages out.
dpkg --root="$tree" --path-include='*' --force-depends --install "$deb" 2>&1 | grep -v warning
dpkg-deb --field "$deb" Depends Recommends
# Whether apt would take it here, with all that it depends on; nothing is installed.
if command -v apt-get >/dev/null; then
    apt-get install --simulate "$deb" | grep '^Inst upg '
fi
[ -z "$(dpkg --root="$tree" --verify upg)" ] || fail "files differ from those of the package"
try_programs "$tree/usr/bin/upg" "$tree/usr/bin/upg-mount"
if command -v lintian >/dev/null; then
    lintian --tag-display-limit 0 --fail-on error --allow-root "$deb"
fi

say "The same as installed"
export work tree
unshare --mount --propagation private bash -euo pipefail -c '
    mount -t overlay overlay -o lowerdir="$tree/usr:/usr" /usr
    mount -t upg "$work/model.upg" "$work/mount" -o cache_size=64MiB
    findmnt "$work/mount"
    diff -r "$work/model" "$work/mount"
    umount "$work/mount"
    for page in upg upg-convert upg-mount mount.upg; do man -w "$page"; done
    source /usr/share/bash-completion/completions/upg
    complete -p upg
'

say "cargo install"
cargo install --quiet --path . --locked --root "$work/root" --target-dir target
# These have line tables, for whoever builds them is to see them.
"$work/root/bin/upg" verify "$work/model.upg" --against "$work/model"
"$work/root/bin/upg-mount" "$work/model.upg" "$work/mount"
diff -r "$work/model" "$work/mount"
"$work/root/bin/upg-mount" -u "$work/mount"

say "Packages are good"
