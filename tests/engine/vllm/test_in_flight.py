"""Which of the core's outputs belong to requests that are still wanted."""

from __future__ import annotations

from pipeline.engine.vllm.core_watch import InFlight
from pipeline.engine.vllm.engine import environment


def test_a_request_is_found_by_the_cores_name() -> None:
    flight = InFlight()
    flight.began(7, "7-0a1b2c3d")
    assert flight.find("7-0a1b2c3d") == 7


def test_one_that_has_ended_is_not() -> None:
    flight = InFlight()
    flight.began(7, "7-0a1b2c3d")
    flight.ended([7])
    assert flight.find("7-0a1b2c3d") is None
    assert not flight


def test_the_next_jobs_request_of_that_number_is_another_one() -> None:
    flight = InFlight()
    flight.began(7, "7-0a1b2c3d")
    flight.ended([7])
    flight.began(7, "7-99999999")
    assert flight.find("7-0a1b2c3d") is None
    assert flight.find("7-99999999") == 7


def test_what_is_not_known_may_end() -> None:
    InFlight().ended([1, 2])


def test_the_core_is_where_the_job_says() -> None:
    def own(gpu: bool, core: str) -> bool:
        variables = environment(gpu=gpu, eager=True, core=core)  # type: ignore[arg-type]
        return variables["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"

    assert own(True, "auto")
    assert not own(False, "auto")
    assert own(False, "own")
    assert not own(True, "shared")
