"""`import rackmill`: another name for the package ``pipeline``. Installed as rackmill.py."""

import sys

import pipeline

sys.modules[__name__] = pipeline
