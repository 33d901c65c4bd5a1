"""How Weights & Biases is asked for something: in time, and never for a password at a terminal.

What it answers badly, late or not at all becomes an error that says what to type.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssr_exp.errors import SsrError

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

RETRIES = 3  # of a question; left to itself W&B retries for minutes and never says what was wrong
GIVEN_UP = "giving up after"  # W&B's words for a server that did not answer


@dataclass(frozen=True)
class ApiRequest:
    """What is asked for, in the words of whoever asks.

    Args:
        what: "read runs from W&B".
        entity: the owner; None: the account's own.
        project: the project.
        timeout_s: how long an answer may take.
        slower: what allows more time, as one types it.
        elsewhere: what names another project, as one types it.
        instead: what needs no W&B, as one types it.
        filters: that the server may refuse.
    """

    what: str
    entity: str | None
    project: str
    timeout_s: float
    slower: str
    elsewhere: str
    instead: str
    filters: dict[str, object] | None = None

    @property
    def place(self) -> str:
        """Name the project as W&B does."""
        return f"{self.entity}/{self.project}" if self.entity else self.project


@contextmanager
def connect(request: ApiRequest) -> Iterator[wandb.Api]:
    """Ask W&B, whose own process ends with the block.

    Raises:
        SsrError: if W&B has no such project, refuses the account, or is too slow.
    """
    import wandb

    try:
        close()
        wandb.setup(settings=wandb.Settings(silent=True, x_graphql_retry_max=RETRIES))
        owner = {"entity": request.entity} if request.entity else {}
        with _temporary_folder(), _in_time(request.timeout_s) as seconds:
            yield wandb.Api(owner | {"project": request.project}, timeout=seconds)
    except SsrError:
        raise
    except Exception as error:
        why = _refusal(error, request)
        raise SsrError(f"cannot {request.what}: {why}, or {request.instead}.") from error
    finally:
        close()


def close(*, always: bool = False) -> None:
    """End W&B's own process, so that jobs started later do not look for it.

    Args:
        always: whether to end it even while it logs a run, as when it may have died.
    """
    client = sys.modules.get("wandb")
    if client is not None and (always or client.run is None):
        try:
            client.teardown()
        except (Exception, SystemExit) as error:
            log.debug("W&B ended with %s", error)


def sentence(error: BaseException) -> str:
    """Put what W&B says into one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _in_time(timeout_s: float) -> Iterator[int]:
    """Give every client of the block so many seconds, those that other libraries make, too."""
    import wandb

    seconds = math.ceil(timeout_s)
    before = wandb.Api._HTTP_TIMEOUT
    wandb.Api._HTTP_TIMEOUT = seconds
    try:
        yield seconds
    finally:
        wandb.Api._HTTP_TIMEOUT = before


@contextmanager
def _temporary_folder() -> Iterator[None]:
    """Sweep away the folders that W&B makes, one for each run that it lists."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        variable("WANDB_DIR", folder),
    ):
        yield


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _refusal(error: Exception, request: ApiRequest) -> str:
    """Say what keeps W&B from answering, and what helps."""
    import wandb

    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    told = next((e for e in chain if getattr(e, "response", None) is not None), error)
    status = getattr(getattr(told, "response", None), "http_status", 0)
    text = sentence(told)
    late = any(isinstance(e, TimeoutError) for e in chain)
    if late or GIVEN_UP in text:
        why = f"more than {request.timeout_s:g} s" if late else str(told).splitlines()[-1][:200]
        return f"no answer ({why}): check network and WANDB_BASE_URL, or type {request.slower}"
    if any(isinstance(e, wandb.errors.UsageError) for e in chain):
        return "there is no API key here: type wandb login, or set WANDB_API_KEY"
    if isinstance(error, wandb.errors.AuthenticationError) or status == 401:
        return f"the API key is refused ({text}): type wandb login --relogin, or set WANDB_API_KEY"
    lost = ("permission denied", "Could not find project", "not found")
    if status in (403, 404) or any(words in text for words in lost):
        return f"no project {request.place} for this account ({text}): type {request.elsewhere}"
    if request.filters and (status == 400 or text.startswith("input:")):
        example = "MongoDB's words are allowed, such as runs.filters={state:finished}"
        return f"runs.filters={request.filters} is refused ({text}): {example}"
    return text
