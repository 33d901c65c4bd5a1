"""Weights & Biases: its server slow or refusing, its own process killed."""

from __future__ import annotations

import os
import socketserver
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.faults.processes import below, kill
from tests.faults.trials import JOB, Fault, Setting, Trial


class _Trouble(BaseHTTPRequestHandler):
    """Answers nothing of use, at once or late."""

    delay_s, status = 0.0, 500

    def _answer(self) -> None:
        time.sleep(self.delay_s)
        self.send_response(self.status)
        self.end_headers()

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _server(delay_s: float, status: int) -> Iterator[str]:
    """Serve as W&B would on a bad day, in a process of its own."""
    handler = type("Handler", (_Trouble,), {"delay_s": delay_s, "status": status})
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler, bind_and_activate=True)
    pid = os.fork()
    if pid == 0:
        try:
            server.serve_forever()
        finally:
            os._exit(0)
    server.server_close()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        kill(pid)
        os.waitpid(pid, 0)


def wandb_in_trouble(delay_s: float, status: int) -> Fault:
    """Train online where the server is slow or refuses."""
    online = replace(JOB, logger="online", words=(*JOB.words, "logger.timeout_s=3"))

    def fault(setting: Setting, trial: Trial) -> None:
        whole = setting.undisturbed(JOB)
        with _server(delay_s, status) as url:
            child = setting.start(online, trial.folder, lambda: _alone(trial.folder, url))
            if code := child.wait():
                trial.blame(f"it ended with {code}: {child.text[-300:]}")
        trial.struck = "logging offline" in child.text
        trial.look()
        trial.complete(JOB, whole.results)

    return fault


def wandb_is_killed(setting: Setting, trial: Trial) -> None:
    """Kill -9 W&B's own process at a random moment of a training."""
    offline = replace(JOB, epochs=6, logger="offline")
    whole = setting.undisturbed(replace(JOB, epochs=6))
    child = setting.start(offline, trial.folder, lambda: _alone(trial.folder, ""))
    found: list[int] = []
    while not found and not child.is_over():
        found = below(child.pid, "wandb-core")
    time.sleep(setting.draw.uniform(0, whole.wall_s))
    trial.struck = bool([pid for pid in found if kill(pid)]) and not child.is_over()
    if code := child.wait():
        trial.blame(f"it ended with {code}: {child.text[-600:]}")
    trial.look()
    trial.complete(replace(JOB, epochs=6), whole.results)


def _alone(folder: Path, url: str) -> None:
    """Give W&B an environment of its own: no account, no settings, no server but loopback."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    for name in ("CONFIG", "CACHE", "DATA"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / "own" / name.lower())
    os.environ |= {"WANDB_API_KEY": "0" * 40, "NETRC": str(folder / "netrc")}
    if url:
        os.environ["WANDB_BASE_URL"] = url
