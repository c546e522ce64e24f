#!/usr/bin/env bash
# Packages of the two programs:
#
#     scripts/package.sh [OUT]
#
# Builds the programs once, with --release and Cargo.lock, and makes of them, in OUT (target/packages/out
# unless said otherwise):
#
# * a wheel, by maturin: `pip install upg-*.whl`
# * a Debian package, by cargo-deb: `apt install ./upg_*.deb`, with /sbin/mount.upg
#
# with manual pages, completions for shells, and the licences of what is linked in. The same source,
# toolchain and place give the same bytes: dates are those of the last commit
# (SOURCE_DATE_EPOCH), and the line tables of target/release are left out. scripts/check_packages.sh tries the packages.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repo/scripts/common.sh"

out=$(mkdir -p "${1:-$repo/target/packages/out}" && cd "${1:-$repo/target/packages/out}" && pwd)
cd "$repo"
# cargo-deb takes it from here, wherever else programs are built.
export CARGO_TARGET_DIR=$repo/target
stage=$repo/target/packages
tools=$repo/target/tools
maturin=1.16.0 cargo_deb=3.8.0

# Not for cargo to see, which would build the C library again for it.
date=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
unset SOURCE_DATE_EPOCH
umask 022

mkdir -p "$tools" "$stage"
echo "maturin==$maturin" >"$stage/requirements.txt"
make_venv "$tools/venv" "$stage/requirements.txt"
need_packages dpkg-shlibdeps=dpkg-dev strip=binutils
if ! "$tools/bin/cargo-deb" --version 2>/dev/null | grep -q " $cargo_deb\$"; then
    cargo install cargo-deb --version "$cargo_deb" --locked --root "$tools" --target-dir "$tools/build"
fi

cargo build --release --locked --bins

rm -rf "$stage/share" "$stage/sbin" "$repo/upg.data"
target/release/upg --generate "$stage/share"
mkdir "$stage/sbin"
# mount(8) asks for the second when it knows no more than the type of what is mounted.
ln -s ../bin/upg-mount "$stage/sbin/mount.upg"
ln -s mount.upg "$stage/sbin/mount.fuse.upg"
scripts/third_party.py >"$stage/third-party-licences"
version=$(target/release/upg --version | cut -d' ' -f2)
cat >"$stage/changelog" <<CHANGELOG
upg ($version-1) unstable; urgency=medium

  * Version $version: see the changelog beside this file.

 -- The upg developers <upg@packages.invalid>  $(date -u -R -d "@$date")
CHANGELOG

SOURCE_DATE_EPOCH=$date "$tools/bin/cargo-deb" --no-build --strip --locked --output "$out/"

# What maturin is to put beside the programs, at the place where it looks for it.
trap 'rm -rf "$repo/upg.data"' EXIT
mkdir -p upg.data/data/share/doc/upg
cp -r "$stage/share/." upg.data/data/share
cp "$stage/third-party-licences" upg.data/data/share/doc/upg/
mkdir -p "$stage/bin"
printf '#!/bin/sh\nunset SOURCE_DATE_EPOCH\nexec "%s" "$@"\n' "$(command -v cargo)" >"$stage/bin/cargo"
chmod +x "$stage/bin/cargo"
PATH=$stage/bin:$PATH SOURCE_DATE_EPOCH=$date "$tools/venv/bin/maturin" build --release --out "$out"
# maturin has left stripped programs there.
cargo build --release --locked --bins

ls -l "$out"
