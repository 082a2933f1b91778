"""All faults, in the order of the table."""

from __future__ import annotations

from . import contents, networks, servers
from .fault import Fault

__all__ = ["FAULTS"]

FAULTS: dict[str, Fault] = {
    found.name: found
    for module in (servers, networks, contents)
    for found in vars(module).values()
    if isinstance(found, Fault)
}
