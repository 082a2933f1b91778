"""The doctor, called in this process or run as an operator does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tornado_mcsession.doctor import Doctor, Findings, Remark

USER = "me"
SECRET = "pä55/s3cret"
QUOTED = "p%C3%A455%2Fs3cret"


# Output is buffered, as it is where nobody asked for something else.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}


def examined(url: str) -> Findings:
    """What the doctor finds out about the only node of ``url``."""
    (findings,) = Doctor(url).examine()
    return findings


def codes(findings: Findings, kind: str) -> list[str]:
    """The codes of all remarks of a kind."""
    return [remark.code for remark in findings.remarks if remark.kind == kind]


def remark(findings: Findings, code: str) -> Remark:
    """The only remark with this code."""
    (found,) = [remark for remark in findings.remarks if remark.code == code]
    return found


def start(*arguments: str, **options: Any) -> subprocess.Popen[Any]:
    """Start the program, in which any warning is an error."""
    python = [sys.executable, "-X", "dev", "-W", "error"]
    command = [*python, "-m", "tornado_mcsession", *arguments]
    return subprocess.Popen(command, **{"env": ENVIRONMENT, **options})


def run(
    *arguments: str, input: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    pipe = subprocess.PIPE
    options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, **options}
    with start(*arguments, text=True, **options) as process:
        try:
            out, err = process.communicate(input, timeout=60)
        finally:
            process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
