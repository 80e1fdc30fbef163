"""Ray Data LLM on one specification (see ``workplace.Workplace.peer``): Parquet in, Parquet out.

Written as Ray's documentation has it: ``vLLMEngineProcessorConfig``, ``build_processor`` with a
``preprocess`` that makes the prompt and a ``postprocess`` that keeps the answer. The model has no
chat template, so that stage is off. Ray tokenizes and detokenizes in stages of its own (its
default). On a machine without a GPU the engine's actor asks for a core (its default is a GPU),
and Ray is told of more cores than there are, or its stages would wait for each other for ever.

``log_engine_metrics`` is off: it needs ``ray[serve]``, and costs a little.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig


def main() -> None:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    started = time.perf_counter()
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=spec.get("verbose", False))
    variables = spec["engine_environment"]
    config = vLLMEngineProcessorConfig(
        model_source=spec["model"],
        engine_kwargs=spec["engine"],
        batch_size=spec["batch_size"],
        max_concurrent_batches=spec["max_concurrent_batches"],
        concurrency=1,
        chat_template_stage=False,
        placement_group_config={"bundles": [{"CPU": 1}]},
        runtime_env={"env_vars": variables} if variables else None,
        log_engine_metrics=False,
    )
    template, mark, column = spec["template"], spec["mark"], spec["column"]
    sampling = spec["sampling"]

    def preprocess(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": template.replace(mark, row[column]), "sampling_params": sampling}

    def postprocess(row: dict[str, Any]) -> dict[str, Any]:
        return {"answer": row["generated_text"], "tokens": row["num_generated_tokens"]}

    processor = build_processor(config, preprocess=preprocess, postprocess=postprocess)
    output = Path(spec["output"])
    processor(ray.data.read_parquet(spec["input"])).write_parquet(str(output))
    seconds = time.perf_counter() - started

    import pyarrow.parquet as pq

    written = pq.read_table(output)
    found = {
        "rows": written.num_rows,
        "tokens": sum(written["tokens"].to_pylist()),
        "seconds": seconds,
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
