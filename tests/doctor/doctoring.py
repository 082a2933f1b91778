"""The doctor, called in this process or run as an operator does."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from typing import Any

import pytest

from tornado_mcsession.__main__ import main
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


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, in a process of its own."""
    pipe = subprocess.PIPE
    options = {"stdout": pipe, "stderr": pipe, **options}
    with start(*arguments, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program to its end in this process, which takes a tenth of the time."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", io.StringIO(input))
        try:
            status = main(arguments)
        except SystemExit as end:  # from argparse
            status = end.code if isinstance(end.code, int) else 1
    return subprocess.CompletedProcess(
        arguments, status, out.getvalue(), err.getvalue()
    )
