"""Python runs this file when it starts, where its folder is in PYTHONPATH."""

from fake_nvml.bindings import install

install()
