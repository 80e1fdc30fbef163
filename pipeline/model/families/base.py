"""What rackmill needs to know about a family of models."""

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
        """The usual name: "Gemma 3"."""

    @property
    def name(self) -> str:
        """The name in GGUF files (``general.architecture``)."""

    @property
    def sizes(self) -> str:
        """The existing sizes, for messages: "270M, 1B or 4B"."""

    @property
    def licence(self) -> str:
        """Whose terms apply, with a web address."""

    @property
    def licence_tag(self) -> str:
        """The licence's tag on the hub."""

    @property
    def tokenizer_class(self) -> str:
        """Its name in ``tokenizer_config.json``."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Possible prefixes of the text model's tensor names in a checkpoint, the plain one
        first."""

    @property
    def chat_template(self) -> str:
        """The format of messages for its chat models, as a Jinja template."""

    def has(self, config: Mapping[str, Any]) -> bool:
        """Whether ``config.json`` describes a model of this family."""

    def geometry(self, config: Mapping[str, Any]) -> Geometry:
        """From ``config.json``. Raises KeyError, TypeError or ValueError if it lacks something."""

    def layer_shapes(self, geometry: Geometry) -> Shapes:
        """The modules of one layer, and the shapes of their weights."""

    def vision_parameters(self, geometry: Geometry) -> int:
        """Parameters of a vision tower and of its projector to this text model."""

    def read_config(self, config: Mapping[str, Any]) -> Any:
        """``config.json`` read by transformers' own class; raises what that class raises."""

    def alike(self, loaded: Any, geometry: Geometry) -> Iterator[tuple[str, Any, Any]]:
        """What must be the same in the whole family: (key, value in ``loaded``, right value)."""

    def embedding_factor(self, config: Mapping[str, Any]) -> float:
        """The factor of token embeddings before the first layer."""

    def layer_inputs(
        self,
        config: Mapping[str, Any],
        index: int,
        weights: Mapping[str, torch.Tensor],
        states: torch.Tensor,
        lengths: Sequence[int],
    ) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
        """Compute layer ``index`` on ``states``, in place, with the arithmetic of ``exact``.

        ``states``: float32 (tokens, hidden), texts of ``lengths`` one after the other, none longer
        than the sliding window. Before each step that multiplies weights it yields the names of
        the modules that share an input, and that input: float32 (tokens, columns). Only after that
        it looks up the weights of those modules (float32, by name within the layer).
        """

    def tensor_name(self, name: str) -> str | None:
        """The Hugging Face name of a GGUF tensor; None if the family has no such tensor."""

    def gguf_config(self, path: Path, fields: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        """``config.json`` (without quantization) from the metadata of the GGUF file ``path``.
        ``shapes``: of all tensors, by Hugging Face name. Raises UsageError if something is missing
        or does not fit."""
