# Shared by the scripts: packages of the system, virtual environments, and the programs.
# shellcheck shell=bash

# need_packages COMMAND=PACKAGE...: installs the Debian packages whose command is
# missing. Without apt or root it names them; what needs them then says so itself.
need_packages() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    # python3 can be there without the part of it that makes environments.
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing packages: ${missing[*]} (install them, or run as root on a machine with apt)" >&2
        return 0
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# make_venv DIRECTORY REQUIREMENTS: a virtual environment with exactly these packages,
# reused as long as neither the list nor the interpreter changes.
make_venv() {
    local venv=$1 requirements=$2 stamp
    stamp="$(sha256sum <"$requirements") $(python3 -c 'import sys; print(sys.version, sys.executable)')"
    if [ -f "$venv/stamp" ] && [ "$(cat "$venv/stamp")" = "$stamp" ]; then
        return 0
    fi
    echo "making $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    echo "$stamp" >"$venv/stamp"
}

# find_programs [PREFIX...]: sets `bin`, where upg and upg-mount are, and `python`, which has the packages of
# scripts/requirements.txt. UPG_BIN_DIR and UPG_PYTHON say which; else they are made here. What takes long
# is run by the prefix.
find_programs() {
    python=${UPG_PYTHON-}
    if [ -z "$python" ]; then
        make_venv "$repo/target/venv" "$repo/scripts/requirements.txt"
        python=$repo/target/venv/bin/python
    fi
    bin=${UPG_BIN_DIR-}
    if [ -z "$bin" ]; then
        "$@" cargo build --release --locked --manifest-path "$repo/Cargo.toml"
        bin=${CARGO_TARGET_DIR:-$repo/target}/release
    fi
}
