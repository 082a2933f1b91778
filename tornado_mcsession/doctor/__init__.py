"""What ``python -m tornado_mcsession doctor`` finds out about memcached nodes."""

from .examination import Doctor
from .findings import COMMANDS, Findings, Remark

__all__ = ["COMMANDS", "Doctor", "Findings", "Remark"]
