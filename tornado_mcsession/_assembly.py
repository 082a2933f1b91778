"""The parts of a manager, put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from . import _parts
from ._bounded_store import BoundedStore
from ._by_id import Records
from ._commit import Committer
from ._endings import Endings
from ._failures import Failures
from ._finding import Finding
from ._foreign import ForeignRecords
from ._hooks import Hooks
from ._legacy import Legacy, legacy_key, legacy_marker_key
from ._markers import Markers
from ._opening import Opening
from ._policy import Policy
from ._record_store import RecordStore
from ._rotation import Rotation
from ._saver import Saver
from ._tasks import Tasks
from ._undeleted import Undeleted
from ._verbs import Verbs
from .config import SessionConfig
from .stores.base import Store
from .transport import Transport

__all__ = ["Assembly"]


class Assembly:
    """What loads, saves and ends the sessions of a manager.

    A principal's digest is made with the first of ``linking_keys``; they are all
    there are where the manager ``knows_all``.
    """

    def __init__(
        self,
        config: SessionConfig,
        store: Store,
        transport: Transport,
        counts: Counter[str],
        linking_keys: Sequence[bytes],
        knows_all: bool,
    ) -> None:
        self.tasks = tasks = Tasks()
        codec, bounded = _parts.build_codec(config), BoundedStore(store)
        records = RecordStore(bounded, codec, config)
        older_key = partial(legacy_key, config)
        older_marker = partial(legacy_marker_key, config)
        self.markers = markers = Markers(
            bounded, config, linking_keys, knows_all, older_marker
        )
        foreign, hooks = ForeignRecords(counts), Hooks(config, counts)
        committer = Committer(records, codec, config, foreign, counts)
        keep_for = config.lifetime or config.idle_timeout or 0.0
        self.undeleted = later = Undeleted(
            lambda key: rotation.end(key), keep_for, config.clock, tasks
        )
        store.on_connect(lambda _: later.retry_soon())
        rotation = Rotation(committer, records, codec, config, later.add)
        legacy = Legacy(config, records, rotation, markers, foreign)
        saver = Saver(committer, rotation, codec, config, hooks, counts, markers)
        self.records = Records(committer, markers, legacy, codec, config, saver.key_of)
        endings = Endings(rotation, saver.key_of, older_key, later.add)
        self.endings, failures = endings, Failures(config, counts)
        verbs = Verbs(saver, markers, endings, codec, config, hooks, tasks)
        self.policy = Policy(config, transport, saver, verbs, endings, failures, counts)
        finding = Finding(records, markers, legacy, foreign, codec, config, tasks)
        self.opening = Opening(
            config, transport, codec, finding, verbs, hooks, failures, counts
        )
