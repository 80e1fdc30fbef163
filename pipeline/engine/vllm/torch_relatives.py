"""PyTorch's packages for pictures and sound, where they were built for another PyTorch."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

_RELATIVES = ("torchvision", "torchaudio", "torchcodec")


def without_unfit_relatives() -> None:
    """Have this process take those as missing that are there and cannot be imported.

    vLLM and transformers import them wherever they are installed. A plain `pip install` brings
    builds for CUDA, which raise beside PyTorch for processors ("operator torchvision::nms does not
    exist"). Text needs none of them.
    """
    for relative in _RELATIVES:
        if relative in sys.modules or find_spec(relative) is None:
            continue
        try:
            import_module(relative)
        except Exception:  # whatever their own code raises
            for name in [n for n in sys.modules if n.partition(".")[0] == relative]:
                del sys.modules[name]
            sys.modules[relative] = None  # type: ignore[assignment]  # as Python marks it
