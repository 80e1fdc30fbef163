"""What rackmill asks of a family of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.model.geometry import Geometry

if TYPE_CHECKING:
    import torch  # seconds to import

Shapes = Mapping[str, tuple[int, ...]]  # names -> (rows, columns) or (size,)


class Family(Protocol):
    """Models of one architecture. Registered in ``registry``."""

    @property
    def title(self) -> str:
        """As people call it: "Gemma 3"."""

    @property
    def name(self) -> str:
        """As GGUF files name it (``general.architecture``)."""

    @property
    def sizes(self) -> str:
        """Those that there are, for people: "270M, 1B or 4B"."""

    @property
    def licence(self) -> str:
        """Whose terms apply, with an address."""

    @property
    def licence_tag(self) -> str:
        """As the hub tags it."""

    @property
    def tokenizer_class(self) -> str:
        """As ``tokenizer_config.json`` names it."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What may stand before the text model's tensors in a checkpoint, the plain one first."""

    @property
    def chat_template(self) -> str:
        """How its chat models write messages, as a Jinja template."""

    def has(self, config: Mapping[str, Any]) -> bool:
        """Whether that ``config.json`` is of this family."""

    def geometry(self, config: Mapping[str, Any]) -> Geometry:
        """From a ``config.json``. Raises KeyError, TypeError or ValueError where it lacks some."""

    def layer_shapes(self, geometry: Geometry) -> Shapes:
        """The modules of one layer, and the shapes of their weights."""

    def vision_parameters(self, geometry: Geometry) -> int:
        """Of a vision tower and of its projector to such a text model."""

    def read_config(self, config: Mapping[str, Any]) -> Any:
        """``config.json`` as transformers' own class reads it; raises what that raises."""

    def alike(self, loaded: Any, geometry: Geometry) -> Iterator[tuple[str, Any, Any]]:
        """What every model of the family has alike: (key, what ``loaded`` says, what it must)."""

    def embedding_factor(self, config: Mapping[str, Any]) -> float:
        """What token embeddings are multiplied by before the first layer."""

    def layer_inputs(
        self,
        config: Mapping[str, Any],
        index: int,
        weights: Mapping[str, torch.Tensor],
        states: torch.Tensor,
        lengths: Sequence[int],
    ) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
        """Take ``states`` through layer ``index``, in place, with the arithmetic of ``exact``.

        ``states``: float32 (tokens, hidden), texts of ``lengths`` one behind the other, none longer
        than the sliding window. Comes back before each step that multiplies weights, with the
        names of the modules that share an input, and this: float32 (tokens, columns). The weights
        (float32, by name within the layer) of those modules are looked up after that.
        """

    def tensor_name(self, name: str) -> str | None:
        """A GGUF tensor's name as Hugging Face has it; None where the family has none such."""

    def gguf_config(self, path: Path, fields: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        """``config.json`` (without quantization) from the metadata of the GGUF file ``path``.
        ``shapes``: of all tensors, by Hugging Face name. Raises UsageError where something is
        missing or does not fit."""
