"""Machine code on disk: found again by another process, and whatever is wrong with it costs time, never an error."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from steepest.kernels import machine
from steepest.optim import CLASSES

# Three steps of a fresh process; says how often it compiled and where the parameter ended.
PROCESS = """
import os, warnings
import torch, torch._dynamo, llvmlite.binding
from steepest.kernels import machine
from steepest.optim import AdamW
warnings.simplefilter("error")
if "AS_USER" in os.environ: os.setuid(int(os.environ["AS_USER"]))
compiled, real = [], machine._compile
machine._compile = lambda *arguments: compiled.append(1) or real(*arguments)
p = torch.nn.Parameter(torch.linspace(-1, 1, 50))
optimizer = AdamW([p], lr=float(os.environ.get("LR", "0.1")))
for _ in range(3):
    p.grad = p.detach().clone()
    optimizer.step()
print(len(compiled), float(p.detach().double().norm()))
"""


def process(**changes):
    """How often a fresh process compiled, and where it ended."""
    environment = {**os.environ, **{name: str(value) for name, value in changes.items() if value is not None}}
    for name in [name for name, value in changes.items() if value is None]:
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    compiled, end = done.stdout.split()
    return int(compiled), float(end)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """This process with an empty cache, in memory and on disk, and a list of what it compiles."""
    monkeypatch.setenv("STEEPEST_CACHE", str(tmp_path / "cache"))
    compiled, real = [], machine._compile
    monkeypatch.setattr(machine, "_compile", lambda *arguments: compiled.append(1) or real(*arguments))
    machine.function_address.cache_clear()
    yield compiled
    machine.function_address.cache_clear()


def stepped():
    """The end of three steps."""
    p = torch.nn.Parameter(torch.linspace(-1, 1, 50))
    optimizer = CLASSES["AdamW"]([p], lr=0.1)
    for _ in range(3):
        p.grad = p.detach().clone()
        optimizer.step()
    return p.detach().clone()


def forgotten(compiled):
    """Forget the machine code of this process, as a new one would."""
    machine.function_address.cache_clear()
    compiled.clear()


def files(tmp_path):
    return sorted((tmp_path / "cache").iterdir())


def test_another_process_compiles_nothing(tmp_path):
    first, end = process(STEEPEST_CACHE=tmp_path)
    assert first >= 1
    again, other_end = process(STEEPEST_CACHE=tmp_path, LR=0.2)
    assert again == 0
    assert other_end != end


def test_a_hit_is_bitwise_the_same(fresh, tmp_path):
    before = stepped()
    assert fresh
    forgotten(fresh)
    assert torch.equal(stepped(), before)
    assert not fresh


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-7],
    "half": lambda content: content[: len(content) // 2],
    "longer": lambda content: content + b"\0",
    "a bit of the code": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "a bit of the digest": lambda content: content[:30] + bytes([content[30] ^ 1]) + content[31:],
    "another magic": lambda content: b"steepest machine code 0\n" + content[24:],
    "text": lambda content: b"this is no machine code",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_compiled_again_and_mended(fresh, tmp_path, damage):
    before = stepped()
    sound = {path: path.read_bytes() for path in files(tmp_path)}
    for path, content in sound.items():
        path.write_bytes(damage(content))
    forgotten(fresh)
    assert torch.equal(stepped(), before)
    assert len(fresh) == len(sound)
    assert all(path.read_bytes()[:30] == content[:30] for path, content in sound.items())
    forgotten(fresh)
    assert torch.equal(stepped(), before)
    assert not fresh


def test_whole_code_of_another_kernel_is_not_taken(fresh, tmp_path):
    before = stepped()
    own = files(tmp_path)
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    CLASSES["Lion"]([p]).step()
    other = next(path for path in files(tmp_path) if path not in own)
    for path in own:
        path.write_bytes(other.read_bytes())
    forgotten(fresh)
    assert torch.equal(stepped(), before)


def test_the_file_is_the_users_own(fresh, tmp_path):
    stepped()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    for path in files(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert path.suffix == ".o"  # no temporary file stays


@pytest.mark.skipif(not hasattr(os, "chown") or os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_run(fresh, tmp_path):
    before = stepped()
    for path in files(tmp_path):
        os.chown(path, 54321, 54321)
    forgotten(fresh)
    assert torch.equal(stepped(), before)
    assert fresh


def test_a_cache_that_cannot_be_written_costs_a_compilation(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STEEPEST_CACHE", str(tmp_path / "file" / "cache"))  # also root cannot make a folder here
    before = stepped()
    assert fresh
    forgotten(fresh)
    assert torch.equal(stepped(), before)
    assert fresh


def test_a_path_that_is_a_folder_is_passed_over(fresh, tmp_path):
    before = stepped()
    for path in files(tmp_path):
        path.unlink()
        path.mkdir()
    forgotten(fresh)
    assert torch.equal(stepped(), before)
    assert all(path.is_dir() for path in files(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_not_waited_for(fresh, tmp_path):
    before = stepped()
    for path in files(tmp_path):
        path.unlink()
        os.mkfifo(path)
    forgotten(fresh)
    assert torch.equal(stepped(), before)


@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="only root can become somebody else")
def test_a_user_without_home_and_name_gets_a_result():
    compiled, _ = process(HOME=None, XDG_CACHE_HOME=None, STEEPEST_CACHE=None, AS_USER=54321)
    assert compiled >= 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else_gives_a_result(tmp_path):
    _, end = process(STEEPEST_CACHE=tmp_path)
    for path in [tmp_path, *tmp_path.iterdir()]:
        path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    compiled, again = process(STEEPEST_CACHE=tmp_path, AS_USER=54321)
    assert again == end
    assert compiled >= 1


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda _: process(STEEPEST_CACHE=tmp_path)[1], range(2)))
    assert ends[0] == ends[1]
    assert all(path.suffix == ".o" for path in tmp_path.iterdir())


def test_many_threads_at_once(fresh, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda _: stepped(), range(4)))
    assert all(torch.equal(end, ends[0]) for end in ends)


def test_the_key_is_the_assembly_and_the_machine(monkeypatch):
    key = machine._key("define void @stage(ptr %sheet) {}")
    assert machine._key("define void @stage(ptr %sheet) {}") == key
    assert machine._key("define void @stage(ptr %sheet) { }") != key
    monkeypatch.setattr(machine, "_machine_key", lambda: "another processor")
    assert machine._key("define void @stage(ptr %sheet) {}") != key
