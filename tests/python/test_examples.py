"""The examples of the library, run as their texts say."""

from support import tensors
from support.programs import BINARIES, convert, require, run


def example(name, *arguments):
    program = BINARIES / "examples" / name
    require(program.exists(), f"{program} is missing: cargo build --release --examples")
    return run(program, *arguments)


def test_read_tensor(tiny, tiny_lossless):
    listed = example("read_tensor", tiny_lossless.path)
    expected = tensors.read_model(tiny)
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == len(expected)
    for name, tensor in expected.items():
        done = example("read_tensor", tiny_lossless.path, name)
        assert f"{len(tensor.data)} bytes, which add up to {sum(tensor.data)}\n" in done.stdout, done.stderr
    missing = example("read_tensor", tiny_lossless.path, "nothing")
    assert missing.returncode == 1 and "nothing" in missing.stderr


def test_from_memory(tiny, tiny_lossless):
    done = example("from_memory", tiny_lossless.path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(tensors.tree(tiny))
    for path in tensors.tree(tiny):
        data = (tiny / path).read_bytes()
        assert f'"tiny"/"{path}": {len(data)} bytes, beginning with {list(data[:8])}' in lines


def test_convert(tiny, tmp_path):
    done = example("convert", tiny, tmp_path / "out.upg")
    assert done.returncode == 0, done.stderr
    same = convert(tiny, tmp_path / "same.upg", "--bits", "4")
    assert f"at {same.report['bits_per_weight']:.3f} bits each" in done.stdout
    assert tensors.sha256(tmp_path / "out.upg") == tensors.sha256(same.path)
