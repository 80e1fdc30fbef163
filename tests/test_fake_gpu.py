"""The fake driver is to bindings of NVML what the real one is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.fake_cards import GIB, RTX_2080_TI, RTX_3090, RTX_4090, FakeCards, FakeProcess
from tests.support.fake_gpu.fake_nvml.library import _REASONS, ERRORS

_Show = Callable[..., FakeCards]


@pytest.fixture
def nvml(fake_cards: _Show) -> ModuleType:
    import pynvml

    return pynvml


def test_errors_and_reasons_have_the_numbers_of_the_real_binding() -> None:
    """Compared with nvidia-ml-py's own file, whatever lies beneath the imported one."""
    spec = importlib.util.find_spec("pynvml")
    assert spec is not None
    assert Path(str(spec.origin)).parent.name == "site-packages"
    import pynvml

    assert {f"NVML_ERROR_{name}": number for name, number in ERRORS.items()} == {
        f"NVML_ERROR_{name}": getattr(pynvml, f"NVML_ERROR_{name}") for name in ERRORS
    }
    for name, bit in _REASONS.items():
        assert getattr(pynvml, f"nvmlClocksThrottleReason{name}") == bit
    assert issubclass(pynvml.NVMLError_GpuIsLost, pynvml.NVMLError)


def test_everything_that_is_asked_of_a_card_is_answered(fake_cards: _Show, nvml) -> None:
    me = FakeProcess(os.getpid(), 2 * GIB, graphics=True, compute=False)
    fake_cards(RTX_3090, RTX_4090).change(
        1, used_bytes=3 * GIB, temperature=83, watts=440.5, joules=12.5, utilization=97,
        throttle=["SwPowerCap", "HwThermalSlowdown"], processes=[me, FakeProcess(7, None)],
    )  # fmt: skip
    nvml.nvmlInit()

    assert nvml.nvmlSystemGetDriverVersion() == "580.95.05"
    assert nvml.nvmlSystemGetCudaDriverVersion() == 13000
    assert nvml.nvmlDeviceGetCount() == 2
    card = nvml.nvmlDeviceGetHandleByIndex(1)
    assert nvml.nvmlDeviceGetName(card) == "NVIDIA GeForce RTX 4090"
    uuid = nvml.nvmlDeviceGetUUID(card)
    assert nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByUUID(uuid)) == 1
    memory = nvml.nvmlDeviceGetMemoryInfo(card)
    assert (memory.total, memory.used) == (24564 << 20, 3 * GIB)
    assert memory.free == memory.total - memory.used
    assert tuple(nvml.nvmlDeviceGetCudaComputeCapability(card)) == (8, 9)
    assert nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_MEM) == 10501
    assert nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM) == 3105
    assert nvml.nvmlDeviceGetMemoryBusWidth(card) == 384
    assert nvml.nvmlDeviceGetNumGpuCores(card) == 16384
    assert nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU) == 83
    assert nvml.nvmlDeviceGetTemperatureV(card, nvml.NVML_TEMPERATURE_GPU) == 83
    assert nvml.nvmlDeviceGetPowerUsage(card) == 440_500
    assert nvml.nvmlDeviceGetEnforcedPowerLimit(card) == 450_000
    assert nvml.nvmlDeviceGetTotalEnergyConsumption(card) == 12_500
    reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(card)
    assert reasons & nvml.nvmlClocksEventReasonSwPowerCap
    assert reasons & nvml.nvmlClocksThrottleReasonHwThermalSlowdown
    assert nvml.nvmlDeviceGetUtilizationRates(card).gpu == 97
    (drawing,) = nvml.nvmlDeviceGetGraphicsRunningProcesses(card)
    (computing,) = nvml.nvmlDeviceGetComputeRunningProcesses(card)
    assert (drawing.pid, drawing.usedGpuMemory) == (os.getpid(), 2 * GIB)
    assert (computing.pid, computing.usedGpuMemory) == (7, None)
    assert nvml.nvmlDeviceGetMigMode(card) == [0, 0]
    assert nvml.nvmlDeviceGetPciInfo(card).busId in (b"00000000:02:00.0", "00000000:02:00.0")
    nvml.nvmlShutdown()


def test_nothing_is_answered_before_it_is_started(fake_cards: _Show, nvml) -> None:
    fake_cards(RTX_3090)
    with suppress(nvml.NVMLError_Uninitialized):
        while True:  # others in this process may have started it, and left it so
            nvml.nvmlShutdown()

    with pytest.raises(nvml.NVMLError_Uninitialized):
        nvml.nvmlDeviceGetCount()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("LIBRARY_NOT_FOUND", "NVMLError_LibraryNotFound"),
        ("DRIVER_NOT_LOADED", "NVMLError_DriverNotLoaded"),
        ("LIB_RM_VERSION_MISMATCH", "NVMLError_LibRmVersionMismatch"),
        ("NO_PERMISSION", "NVMLError_NoPermission"),
        ("UNKNOWN", "NVMLError_Unknown"),
    ],
)
def test_a_driver_that_is_broken_does_not_start(
    error: str, raised: str, fake_cards: _Show, nvml
) -> None:
    fake_cards(RTX_3090, error=error)

    with pytest.raises(getattr(nvml, raised)):
        nvml.nvmlInit()


def test_a_card_can_fall_off_the_bus_while_it_is_used(fake_cards: _Show, nvml) -> None:
    driver = fake_cards(RTX_3090)
    nvml.nvmlInit()
    card = nvml.nvmlDeviceGetHandleByIndex(0)
    driver.change(0, lost=True)

    with pytest.raises(nvml.NVMLError_GpuIsLost, match="GPU is lost"):
        nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetHandleByIndex(0)
    driver.change(0, lost=False, unsupported=["nvmlDeviceGetPowerUsage"])
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetPowerUsage(card)
    nvml.nvmlShutdown()


def test_energy_grows_with_the_watts(fake_cards: _Show, nvml) -> None:
    driver = fake_cards(RTX_3090)
    nvml.nvmlInit()
    card = nvml.nvmlDeviceGetHandleByIndex(0)
    driver.change(0, watts=1e9, energy_since=0.0)
    first = nvml.nvmlDeviceGetTotalEnergyConsumption(card)

    assert nvml.nvmlDeviceGetTotalEnergyConsumption(card) > first
    nvml.nvmlShutdown()


_OTHERS = """
import json, os
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as ray
import ray._private.thirdparty.pynvml as rays
import pynvml as ours
import vllm.third_party.pynvml as vllms
seen = [ray.get_current_node_num_accelerators(), ray.get_current_node_accelerator_type()]
for binding in (ours, rays, vllms):
    binding.nvmlInit()
    seen.append(binding.nvmlDeviceGetName(binding.nvmlDeviceGetHandleByIndex(1)))
print(json.dumps(seen))
"""


def test_processes_that_are_started_see_the_same_whichever_binding_they_use(
    fake_cards: _Show, tmp_path: Path
) -> None:
    fake_cards(RTX_2080_TI, RTX_4090)
    done = subprocess.run(
        [sys.executable, "-c", _OTHERS], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    name = "NVIDIA GeForce RTX 4090"
    assert json.loads(done.stdout) == [2, "GeForce-RTX-2080-Ti", name, name, name]


def test_without_a_state_the_real_library_is_asked(fake_cards: _Show, nvml, monkeypatch) -> None:
    fake_cards(RTX_3090)
    monkeypatch.delenv("FAKE_NVML_STATE")

    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return  # no driver here
    assert nvml.nvmlSystemGetDriverVersion()
    nvml.nvmlShutdown()


def test_nvidia_smi_shows_the_same(fake_cards: _Show) -> None:
    driver = fake_cards(RTX_2080_TI, RTX_4090)
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]

    shown = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [
        "NVIDIA GeForce RTX 2080 Ti, 7.5, 580.95.05",
        "NVIDIA GeForce RTX 4090, 8.9, 580.95.05",
    ]
    driver.fail("LIB_RM_VERSION_MISMATCH")
    failed = subprocess.run(query, capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout.splitlines()[0]) == (
        18,
        "Failed to initialize NVML: Driver/library version mismatch",
    )
