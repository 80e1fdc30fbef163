"""`rackmill doctor`: what is wrong with this machine, and how to fix it."""

from __future__ import annotations

import typer

from pipeline.cli.options import Json
from pipeline.cli.terminal.console import OUT, print_json


def doctor_command(as_json: Json = False) -> None:
    """Say what is wrong with this machine, and how to fix it."""
    from pipeline.cli.models_and_machines.doctor.examine import examine

    findings = examine()
    ok = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": ok, "findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = "ok " if finding.ok else "BAD"
            OUT.print(f"{mark}  {finding.subject:<10} {finding.says}")
            if finding.fix:
                OUT.print(f"{'':<16}→ {finding.fix}")
    raise typer.Exit(0 if ok else 1)
