#!/usr/bin/env python3
"""Measure how much a compressed model's answers differ from its source's.

Compresses with upg, mounts the result, loads it with transformers, and compares its
logits on a text with those of the source: perplexity, Kullback-Leibler divergence (KLD),
how often the most likely token is the same (top-1), and the weights' signal-to-noise
ratio. The same for llama.cpp's quantisers, applied to the same tensors by their own code;
then how many bits upg needs for the KLD of each of them, between the rates that were
measured (bits are linear in log KLD).
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from measure import Trouble, programs, tables
from measure.files import all_tensors
from measure.programs import progress, say

EXAMPLES = """\
examples:
  quality.py models/phi-4 --text book.txt
      every setting, and llama.cpp's quantisers if the package for them is installed
  quality.py models/phi-4 --text book.txt --bits 3.2,4 --ggml none --cache logits.bin
      two settings; the source's logits are kept for the next run
  quality.py models/phi-4 --text book.txt --upg '--bits 2,3.2,5 --grid uniform' --upg --lossless
      any options of upg convert; a list of bits is a curve
  quality.py models/phi-4 --text book.txt --bits none --ggml Q4_K,IQ4_XS
      llama.cpp alone

Bits are those of the matrices (weights with two dimensions or more, embedding and head
included), tables and index counted; "file" is the whole .upg file over all weights. Other
tensors are exact on both sides. llama.cpp's types are applied to every matrix alike, without
its mixtures of types and, where a type wants an importance matrix, with one of ones.

The text should be one that the model was not trained on. Windows lie evenly over it. A
window may not be longer than those of the training, or the perplexity says nothing.
The source's logits take 4 bytes x tokens x vocabulary on disk.

Packages: scripts/requirements-quality.txt
"""
BITS = "2,2.5,3.2,4,5,6,8,9"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, help="directory with safetensors, config and tokenizer")
    add("--text", type=Path, required=True, help="UTF-8 text that the model has not seen")
    add("--tokens", type=int, default=16384, help="how many of its tokens [16384]")
    add("--window", type=int, help="tokens that the model sees at once [512, or its context]")
    add("--bits", metavar="LIST", help=f"upg at these rates [{BITS} and lossless]; or none")
    add("--upg", metavar="OPTIONS", action="append", default=[],
        help="upg with these options; may be repeated")  # fmt: skip
    add("--ggml", metavar="LIST", help="llama.cpp's types [all, if installed]; or none")
    add("--ggml-library", type=Path, metavar="FILE", help="another libggml-base.so")
    add("--cache", type=Path, metavar="FILE", help="keep the source's logits here")
    add("--work", type=Path, metavar="DIR", help="for temporary files [the system's place]")
    add("--bin", type=Path, metavar="DIR", help="where upg and upg-mount are [target/release]")
    add("--threads", type=int, default=os.cpu_count(), help="threads [one per core]")
    add("--json", type=Path, metavar="FILE", help="write everything here, too")
    given = parser.parse_args(join_options(sys.argv[1:]))
    if given.tokens < 2 or given.threads < 1 or (given.window is not None and given.window < 2):
        parser.error("--tokens and --window are 2 or more, --threads 1 or more")
    return given


def join_options(words):
    """`--upg --lossless` as `--upg=--lossless`: argparse takes no value that begins with -."""
    joined = []
    for word in words:
        if joined and joined[-1] == "--upg":
            joined[-1] = f"--upg={word}"
        else:
            joined.append(word)
    return joined


def upg_settings(given):
    """[(curve, [options])]: settings that differ in --bits alone are points of one curve."""
    texts = list(given.upg)
    if given.bits != "none" and (given.bits or not texts):
        texts.insert(0, f"--bits {given.bits or BITS}")
        if not given.bits:
            texts.append("--lossless")
    settings = []
    for text in texts:
        options, rates = shlex.split(text), [None]
        for at, option in enumerate(options):
            if option == "--bits" and at + 1 < len(options):
                rates = options[at + 1].split(",")
                del options[at : at + 2]
                break
            if option.startswith("--bits="):
                rates = option.removeprefix("--bits=").split(",")
                del options[at]
                break
        curve = " ".join(["upg", *options])
        settings += [(curve, [*(["--bits", r] if r else []), *options]) for r in rates]
    return settings


def ggml_types(given):
    """(library, names); none if the package is missing and nobody asked for it."""
    if given.ggml == "none":
        return None, []
    from measure import ggml

    names = given.ggml.split(",") if given.ggml else ggml.DEFAULT
    unknown = [name for name in names if name not in ggml.TYPES]
    if unknown:
        raise Trouble(f"--ggml {unknown[0]}: not one of {', '.join(ggml.TYPES)}")
    path = given.ggml_library or ggml.library_path()
    if path:
        return ggml.Ggml(str(path)), names
    missing = f"no package {ggml.PACKAGE} (scripts/requirements-quality.txt)"
    if given.ggml:
        raise Trouble(missing)
    say(f"{missing}: llama.cpp's quantisers are left out")
    return None, []


def measure_upg(given, curve, options, reference, work):
    from measure import logits

    upg, upg_mount = programs.find(given.bin)
    image, name = work / "model.upg", " ".join(["upg", *options])
    progress(f"{name}: converting")
    report = programs.convert(upg, given.model, image, options)
    with programs.mounted(upg_mount, image, work / "mount") as point:
        snr = logits.snr(given.model, point)
        result = logits.measure(point, reference, name)
    image.unlink()
    matrices = {(t.file.name, t.name) for t in all_tensors(given.model) if t.is_matrix}
    stored = [t for t in report["tensors"] if (t["file"], t["name"]) in matrices]
    weights = sum(t["weights"] for t in stored)
    if len(stored) != len(matrices):
        raise Trouble(f"{name}: the report has {len(stored)} of {len(matrices)} matrices")
    return {
        "name": name,
        "curve": curve,
        "options": options,
        "bits": 8 * sum(t["stored_bytes"] for t in stored) / weights,
        "file_bits": report["bits_per_weight"],
        "file_bytes": report["file_bytes"],
        "snr_db": snr,
        **result,
    }


def measure_ggml(given, library, name, reference, work):
    from measure import ggml, logits

    target = work / "ggml"
    try:
        size, weights, others = ggml.write_model(
            library, name, given.model, target, given.threads
        )
        snr = logits.snr(given.model, target)
        result = logits.measure(target, reference, name)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    for other, count in others.items():
        say(f"{name}: {count} tensors have rows that do not fit; {other} as in llama.cpp")
    bits = 8 * size / weights
    note = {"other_types": others} if others else {}
    return {"name": name, "bits": bits, "snr_db": snr, **result, **note}


def equal_quality(ours, theirs):
    """For every type of theirs: the bits that each curve of ours needs for the same KLD."""
    curves = {}
    for point in ours:
        curves.setdefault(point["curve"], []).append((point["bits"], point["kld"]))
    found = []
    for curve, points in curves.items():
        if len(points) < 2:
            continue
        for other in theirs:
            bits = tables.bits_at(points, other["kld"])
            saves = None if bits is None else other["bits"] - bits
            entry = {"type": other["name"], "kld": other["kld"], "their_bits": other["bits"]}
            found.append({**entry, "curve": curve, "bits": bits, "saves": saves})
    return found


def print_tables(perplexity, ours, theirs, equal):
    rows = [["source", "", "", "", f"{perplexity:.3f}", "", "", ""]]
    for r in ours + theirs:
        file_bits = f"{r['file_bits']:.3f}" if "file_bits" in r else "-"
        snr = "exact" if r["snr_db"] is None else f"{r['snr_db']:.2f}"
        divergences = tables.small(r["kld"]), tables.small(r["kld_999"])
        rows.append([r["name"], f"{r['bits']:.3f}", file_bits, snr, f"{r['perplexity']:.3f}",
                     *divergences, f"{r['top1']:.4f}"])  # fmt: skip
    head = ["", "bits", "file", "SNR dB", "perplexity", "mean KLD", "99.9 % KLD", "top-1"]
    print(tables.markdown(head, rows))
    if equal:
        print("\nBits per weight at equal mean KLD:\n")
        rows = []
        for e in equal:
            at = [tables.small(v) if v is None else f"{v:.2f}" for v in (e["bits"], e["saves"])]
            rows.append([e["type"], tables.small(e["kld"]), f"{e['their_bits']:.2f}",
                         e["curve"], *at])  # fmt: skip
        print(tables.markdown(["", "mean KLD", "its bits", "against", "upg bits", "saves"], rows))


def main():
    given = arguments()
    programs.end_cleanly_on_signals()
    settings = upg_settings(given)
    for directory in (given.work, given.cache and given.cache.parent):
        if directory and not directory.is_dir():
            raise Trouble(f"{directory} is not a directory")
    library, types = ggml_types(given)
    if settings:
        programs.find(given.bin)  # fail before the work, not after it
    all_tensors(given.model)

    import torch
    import transformers

    from measure import logits

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(given.threads)
    inputs = logits.windows(given.model, given.text, given.tokens, given.window)

    with tempfile.TemporaryDirectory(prefix="upg-quality.", dir=given.work) as work:
        work = Path(work)
        cache = given.cache or work / "logits.safetensors"
        reference = logits.Reference(cache, given.model, inputs)
        perplexity = reference.perplexity()
        ours = [measure_upg(given, *setting, reference, work) for setting in settings]
        theirs = [measure_ggml(given, library, name, reference, work) for name in types]
    equal = equal_quality(ours, theirs)
    print_tables(perplexity, ours, theirs, equal)
    if given.json:
        report = {
            "model": str(given.model), "text": str(given.text), "tokens": inputs.numel(),
            "window": inputs.shape[1], "source_perplexity": perplexity,
            "upg": ours, "ggml": theirs, "equal_kld": equal,
        }  # fmt: skip
        given.json.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Trouble as trouble:
        say(f"quality.py: {trouble}")
        sys.exit(1)
