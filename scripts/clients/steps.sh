# The steps of clients.sh: an environment for a client, a model for it, and the trial itself. Each step
# that fails leaves the reason in $work/results/NAME.failed, and the next client has its turn.
# shellcheck shell=bash disable=SC2154

# failed NAME WHY: the first reason is the one to know.
failed() {
    [ -e "$work/results/$1.failed" ] || printf '%s\n' "$2" >"$work/results/$1.failed"
    return 1
}

# The last words of a log that say something.
last_line() { grep -v '^[[:space:]]*$' "$1" | tail -n 1; }

site_packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# install NAME: its environment, which also finds the packages of the base and scripts/.
install() {
    local name=$1 venv=$venvs/$1 pip stamp
    stamp="$(cat "$lists/base.txt" "$lists/$name".*txt | sha256sum) $(cat "$venvs/base/stamp")"
    if [ -f "$venv/stamp" ] && [ "$(cat "$venv/stamp")" = "$stamp" ]; then return 0; fi
    echo "making $venv"
    rm -rf "$venv"
    python3 -m venv "$venv" || return
    printf '%s\n' "$(site_packages "$venvs/base")" "$repo/scripts" >"$(site_packages "$venv")/shared.pth" || return
    pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check)
    run "${pip[@]}" install -r "$lists/$name.txt" || return
    if [ -f "$lists/$name.no-deps.txt" ]; then
        run "${pip[@]}" install --no-deps -r "$lists/$name.no-deps.txt" || return
    fi
    if [ -f "$lists/$name.sdist.txt" ]; then
        run "${pip[@]}" download --no-deps --dest "$venv" -r "$lists/$name.sdist.txt" || return
        unpack_converter "$venv" || return
    fi
    echo "$stamp" >"$venv/stamp"
}

# llama.cpp's converter, out of the source of llama-cpp-python.
unpack_converter() {
    local archive=("$1"/llama_cpp_python-*.tar.gz) version
    version=${archive[0]##*-}
    mkdir "$1/llama.cpp" &&
        tar -xzf "${archive[0]}" -C "$1/llama.cpp" --strip-components=3 --wildcards \
            '*/vendor/llama.cpp/convert_hf_to_gguf.py' '*/vendor/llama.cpp/conversion' '*/vendor/llama.cpp/gguf-py/gguf' &&
        echo "${version%.tar.gz}" >"$1/llama.cpp/version" && rm "${archive[0]}"
}

# The model of a client: the converter takes no tokenizer that it does not know, other than such as
# mixtral's, and candle is compiled without optimisation.
model_of() {
    case $1 in
        gguf) echo mixtral ;;
        candle) echo phi-4-tiny ;;
        diffusers) echo dit ;;
        *) echo phi-4 ;;
    esac
}

# make_source MODEL DIR
make_source() {
    local make=("$base" "$repo/scripts/make_model.py" "$2")
    case $1 in
        phi-4) run "${make[@]}" --layers 2 --hidden 2048 --intermediate 7168 --vocab 20480 --shard-size 150M ;;
        phi-4-tiny) run "${make[@]}" --tiny ;;
        mixtral) run "${make[@]}" --family mixtral ;;
        dit) run "$venvs/diffusers/bin/python" -I -B "$lists/diffusers.py" --make "$2" ;;
    esac
}

# prepare MODEL: $work/models/MODEL.{lossless,lossy}.upg and the plain files of each beside it.
prepare() {
    local model=$work/models/$1 kind
    [ ! -d "$model.lossy" ] || return 0
    make_source "$1" "$model" >/dev/null &&
        run "$bin/upg" convert "$model" -o "$model.lossless.upg" --lossless >/dev/null &&
        run "$bin/upg" convert "$model" -o "$model.lossy.upg" --bits 3.2 >/dev/null || return
    for kind in lossless lossy; do
        run "$bin/upg" unpack "$model.$kind.upg" -o "$model.$kind" >/dev/null || return
    done
    diff -r "$model" "$model.lossless" && rm -rf "$model"
}

# load NAME DIR RESULT [DIR RESULT...]: with a home and caches of its own.
load() {
    local name=$1 program=$lists/$1.py
    shift
    [ -f "$program" ] || program=$lists/${name%-*}.py
    run env HOME="$work/home" TMPDIR="$work/tmp" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false \
        timeout --kill-after=10 1200 "$venvs/$name/bin/python" -I -B "$program" "$@" \
        >"$work/results/$name.log" 2>&1
}

# load_all NAME MODEL: from the plain files and the mounts of both kinds. The first time is for nothing:
# what a client reads of its own, it has read then.
load_all() {
    local at=$work/results/$1 kind loads=("$2.lossless" "$work/tmp/first")
    for kind in lossless lossy; do
        loads+=("$2.$kind" "$at.$kind.plain" "$work/mount/$kind" "$at.$kind.mount")
    done
    if [ "$1" != vllm ]; then
        load "$1" "${loads[@]}"
        return
    fi
    # A process of vLLM has one engine.
    set -- "$1" "${loads[@]}"
    while [ "$#" -gt 1 ]; do
        load "$1" "$2" "$3" || return
        set -- "$1" "${@:4}"
    done
}

# try NAME
try() {
    local name=$1 log=$work/results/$1.log model kind status=0
    install "$name" >"$log" 2>&1 || failed "$name" "not installed: $(last_line "$log")" || return
    prepare "$(model_of "$name")" 2>"$log" || failed "$name" "no model: $(last_line "$log")" || return
    model=$work/models/$(model_of "$name")
    for kind in lossless lossy; do
        run "$bin/upg-mount" "$model.$kind.upg" "$work/mount/$kind" 2>"$log" ||
            failed "$name" "upg-mount: $(last_line "$log")" || return
    done
    load_all "$name" "$model" || failed "$name" "$(last_line "$log")" || status=1
    for kind in lossless lossy; do
        if ! unmount "$kind" 2>"$log"; then
            failed "$name" "the mount cannot be ended: $(last_line "$log")" || status=1
            fusermount3 -u -z "$work/mount/$kind" || true
        fi
    done
    return "$status"
}
