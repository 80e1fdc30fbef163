"""Which build of vLLM this machine is for, and why: for ./infra/setup, with whatever Python there
is and no package. The decision itself is rackmill's own (pipeline/engine/gpu), as `rackmill doctor`
takes it.

stdout: "cuda" or "cpu". stderr: the reason, and what is missing, with the commands that fix it.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "pipeline/engine"))

from gpu.compiler import build_tools, missing_tools
from gpu.smi import ask_smi
from gpu.surroundings import surroundings
from gpu.variant import CUDA, choose_variant


def main() -> None:
    around = surroundings()
    answer = ask_smi(around)
    chosen = choose_variant(answer.cards, answer.driver, around, answer.faults)
    print(chosen.build)
    _say(f"for {'CUDA' if chosen.build == CUDA else 'the processor'}: {chosen.reason}")
    for fault in chosen.faults:
        _say(f"  to use the card: {fault.fix}" if chosen.build != CUDA else f"  {fault}")
    if chosen.build == CUDA:
        for fault in missing_tools(build_tools()):
            _say(f"  missing: {fault.says}")
            _say(f"    {fault.fix}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


main()
