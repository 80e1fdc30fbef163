"""What is wrong with a driver or a card, in a sentence, and the fix. Pure; standard library only,
and relative imports: set-up reads it before anything is installed."""

from __future__ import annotations

from dataclasses import dataclass

from .surroundings import WSL_LIBRARIES, Surroundings

NEEDED_DRIVER = 580  # of PyTorch 2.13 for CUDA 13.0, which GeForce cards need at least
DRIVER_PAGE = "https://www.nvidia.com/drivers"
_WINDOWS = f"update NVIDIA's driver on Windows (not in WSL): {DRIVER_PAGE}; then: wsl --shutdown"
_LINUX = (
    f"install it: sudo apt install nvidia-driver-{NEEDED_DRIVER}-open (Ubuntu), "
    "sudo dnf install akmod-nvidia (Fedora, RPM Fusion), sudo pacman -S nvidia-open (Arch), "
    f"elsewhere (Debian's own is too old) {DRIVER_PAGE}; then reboot"
)
_CONTAINER = "start the container with --gpus all (NVIDIA's container toolkit on its host)"


@dataclass(frozen=True)
class Fault:
    """``says``: what is wrong, ``fix``: what to do about it."""

    says: str
    fix: str

    def __str__(self) -> str:
        return f"{self.says}: {self.fix}"


def driver_fault(error: str, around: Surroundings) -> Fault | None:
    """Why the driver does not answer. ``error``: NVML's name of it, as LIB_RM_VERSION_MISMATCH.
    None: there is nothing that an NVIDIA driver should be there for."""
    if error == "LIBRARY_NOT_FOUND":
        return _no_library(around)
    if error == "LIB_RM_VERSION_MISMATCH":
        fix = "restart the container" if around.container else "reboot"
        return Fault("the NVIDIA driver was updated, the kernel still runs the old one", fix)
    if error == "DRIVER_NOT_LOADED":
        if around.container:
            return Fault("the NVIDIA driver is not loaded on this container's host", _CONTAINER)
        fix = "sudo modprobe nvidia; if that fails (a new kernel, Secure Boot): install it again"
        return Fault("the NVIDIA driver is installed, but not loaded", fix)
    if error == "NO_PERMISSION":
        fix = "sudo usermod -aG video,render $USER, then log in again"
        fix = _CONTAINER if around.container else fix
        return Fault("this user may not use the NVIDIA driver (/dev/nvidia*)", fix)
    if error == "GPU_IS_LOST":
        return card_lost("a card")
    fix = _WINDOWS if around.wsl else f"reboot; if that does not help, {_LINUX}"
    return Fault(f"the NVIDIA driver does not answer ({_in_words(error)})", fix)


def card_fault(title: str, error: str) -> Fault:
    """Why a card does not answer."""
    if error in ("GPU_IS_LOST", "RESET_REQUIRED", "UNKNOWN"):
        return card_lost(title)
    return Fault(f"{title} does not answer ({_in_words(error)})", "see: nvidia-smi; reboot")


def card_lost(title: str) -> Fault:
    return Fault(
        f"{title} has fallen off the bus (GPU is lost)",
        "reboot; if it happens again, look at its power cables, its heat and "
        "`sudo dmesg | grep -i xid`",
    )


def old_driver(version: str, around: Surroundings) -> Fault:
    """A driver below what the CUDA build needs."""
    return Fault(
        f"the NVIDIA driver is {version}, the CUDA build of vLLM needs {NEEDED_DRIVER} or newer "
        "(GeForce cards have no forward compatibility)",
        _WINDOWS if around.wsl else f"update it: {_LINUX.removeprefix('install it: ')}",
    )


def is_old(version: str) -> bool:
    """Whether a driver's ``version``, as "535.183.01", is too old. One that is no number is not."""
    major = version.strip().partition(".")[0]
    return major.isdigit() and int(major) < NEEDED_DRIVER


def _no_library(around: Surroundings) -> Fault | None:
    if around.wsl and around.wsl_library:
        return Fault(
            f"WSL does not find the NVIDIA driver in {WSL_LIBRARIES}",
            f"echo {WSL_LIBRARIES} | sudo tee /etc/ld.so.conf.d/ld.wsl.conf && sudo ldconfig",
        )
    if not around.nvidia_on_bus:
        return None
    if around.container:
        return Fault("there is an NVIDIA card, but this container does not see it", _CONTAINER)
    if around.nouveau:
        return Fault("the NVIDIA card is driven by nouveau, which has no CUDA", _LINUX)
    return Fault("there is an NVIDIA card without its driver", _LINUX)


def _in_words(error: str) -> str:
    return f"NVML: {error.replace('_', ' ').lower()}"
