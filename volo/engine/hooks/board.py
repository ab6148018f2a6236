"""Exchange the reports of all ranks through the store of the process group."""

import concurrent.futures
import dataclasses
import datetime
import json
import os
import queue
import threading
import uuid
from collections.abc import Callable, Collection
from typing import TypeVar

import torch.distributed
from mmengine.dist import broadcast_object_list

from .diagnosis import Report

T = TypeVar('T')


class Board:
    """A connection to the store in a thread of its own, because it may never answer.

    Args:
        patience: Seconds to wait for an answer.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        # The store may outlive this run, and hold reports of another.
        run = [uuid.uuid4().hex]
        broadcast_object_list(run)
        self._prefix = f'volo/stuck_rank/{run[0]}'
        self._questions: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._serve, name='stuck-rank-board', daemon=True
        )
        self._thread.start()

    def exchange(self, own: Report, ranks: Collection[int]) -> dict[int, Report] | None:
        """Publish a report and read those of other ranks.

        Args:
            own: The report of this rank.
            ranks: The ranks to read; those without a report are left out.

        Returns:
            The reports by rank; None if the store does not answer in time.
        """
        return self._ask(lambda store: _exchange(store, own, ranks))

    def add_speaker(self) -> int | None:
        """Count the ranks that have a diagnosis, this one included.

        Returns:
            The count; None if the store does not answer in time.
        """
        return self._ask(lambda store: store.add('speakers', 1))

    def close(self) -> None:
        """Close the connection."""
        self._questions.put(None)
        self._thread.join(5)

    def _ask(self, question: Callable[[torch.distributed.Store], T]) -> T | None:
        answer: concurrent.futures.Future = concurrent.futures.Future()
        self._questions.put((question, answer))
        try:
            return answer.result(self._patience)
        except (RuntimeError, TimeoutError, concurrent.futures.TimeoutError):
            return None  # torch's errors of connections are RuntimeErrors

    def _serve(self) -> None:
        store = None
        while (item := self._questions.get()) is not None:
            question, answer = item
            try:
                store = store or self._connect()
                answer.set_result(question(store))
            except Exception as error:
                store = None  # the next question connects anew
                answer.set_exception(error)

    def _connect(self) -> torch.distributed.Store:
        store = torch.distributed.TCPStore(
            os.environ['MASTER_ADDR'],
            int(os.environ['MASTER_PORT']),
            is_master=False,
            wait_for_workers=False,
            timeout=datetime.timedelta(seconds=max(self._patience, 1)),
        )
        return torch.distributed.PrefixStore(self._prefix, store)


def _exchange(
    store: torch.distributed.Store, own: Report, ranks: Collection[int]
) -> dict[int, Report]:
    store.set(str(own.rank), json.dumps(dataclasses.asdict(own)))
    if not ranks:
        store.check([str(own.rank)])  # set does not wait for an answer
        return {}
    keys = [str(rank) for rank in ranks]
    if not store.check(keys):
        keys = [key for key in keys if store.check([key])]
    texts = store.multi_get(keys)
    return {int(k): Report(**json.loads(t)) for k, t in zip(keys, texts, strict=True)}
