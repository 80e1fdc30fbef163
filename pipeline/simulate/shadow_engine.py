"""Our own count of an engine's blocks: the simulator's vLLM model, in step with a real one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.simulate.vllm_model.kv_cache import Sequence as Running
from pipeline.simulate.vllm_model.scheduler import EngineModel


class ShadowEngine:
    """Computes what the engine must hold, from what goes in and comes out.

    ``agrees`` becomes false for good when the engine gives tokens to other requests than the model
    (the model stops following then). ``error``: the largest difference from the usage that the
    engine reported, as a share of all blocks.
    """

    def __init__(self, model: EngineModel) -> None:
        self._model = model
        self.agrees = True
        self.error = 0.0
        self.compared = 0

    @property
    def use(self) -> float:
        """Share of the blocks that running requests hold, 0..1."""
        return self._model.used / self._model.pool

    def added(
        self, request_id: int, prompt_tokens: int, keys: Sequence[int], *, reads_cache: bool = True
    ) -> None:
        if self.agrees:
            sequence = Running(request_id, prompt_tokens, tuple(keys), reads_cache)
            self._model.add(sequence)

    def aborted(self, request_ids: Iterable[int]) -> None:
        """These requests were removed from the engine between two steps."""
        if self.agrees:
            for request_id in request_ids:
                self._model.abort(request_id)

    def stepped(self, sampled: Iterable[int], ended: Iterable[int], reported_use: float) -> None:
        """The engine made a step: who got a token, who ended, and the usage that it reported."""
        if not self.agrees:
            return
        expected = {sequence.id for sequence in self._model.step().sampled}
        if expected != set(sampled):
            self.agrees = False
            return
        gone = set(ended)
        for sequence in list(self._model.running):  # in the engine's order
            if sequence.id in gone:
                self._model.finish(sequence.id)
        self.compared += 1
        self.error = max(self.error, abs(self.use - reported_use))
