"""What the requests of a planned job are like: for its prediction, and left with its output."""

from __future__ import annotations

from pipeline.driver.plan.plan import Plan
from pipeline.job.job import Job
from pipeline.rows.workload import RequestShape


def request_shape(plan: Plan) -> RequestShape:
    """What the requests of a plan are like, by its sample."""
    sample, kind = plan.sample, answer_kind(plan.job)
    if plan.job.score is not None:  # scores are never cached
        return RequestShape(kind, max_tokens=1)
    shared, job = sample.shape.shared_prefix, plan.job
    apart = job.output.n == "rows"
    groups, limit = sample.groups, job.longest_answer
    return RequestShape(kind, shared, groups, limit, job.answers, apart, sample.asks)


def answer_kind(job: Job) -> str:
    """What the answers are: choices, json, regex, text or score (of the top K)."""
    if job.score is not None:
        return f"score, top {job.score.top_k}" if job.score.top_k else "score"
    if job.asked:
        return "choices"
    if job.label is None:
        return "text"
    return "json" if job.label.json_schema else "regex"
