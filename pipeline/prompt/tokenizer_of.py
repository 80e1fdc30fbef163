"""The tokenizer of a job: its model's, with the template for messages that the job names."""

from __future__ import annotations

from pipeline.job.job import Job
from pipeline.model.families.registry import chat_template_of
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer


def tokenizer_of(job: Job, model: ModelFolder) -> Tokenizer:
    """Raises UsageError where a template is broken."""
    return model.tokenizer(chat_template_of(job.chat_template))
