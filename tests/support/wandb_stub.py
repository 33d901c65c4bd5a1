"""A W&B server on loopback: as much of one as the real client needs to log runs and to list them.

The client's own process sends GraphQL to `/graphql` and a run's summary, curves and end to
`/files/ENTITY/PROJECT/RUN/file_stream`. What a test cares about is kept: `runs`, and `asked`, the
variables of each listing. `refusal` and `delay_s` are for trouble.
"""

from __future__ import annotations

import json
import operator
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
ACCOUNT = "someone"  # whose key it is, and the entity of what names none

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$lt": operator.lt,
    "$in": lambda value, allowed: value in allowed,
}


@dataclass
class Run:
    """What the server knows of a run."""

    name: str
    group: str | None = None
    entity: str = ACCOUNT
    project: str = "ssr_exp"
    title: str = ""
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def node(self) -> dict[str, Any]:
        """Answer as `fragment RunFragment on Run` asks."""
        config = {key: {"value": value} for key, value in self.config.items()}
        absent = "sweepName jobType commit description notes historyKeys".split()
        return dict.fromkeys(absent) | {
            "id": f"id-{self.name}",
            "projectId": "1",
            "name": self.name,
            "displayName": self.title,
            "tags": self.tags,
            "group": self.group,
            "state": self.state,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00Z",
            "heartbeatAt": "2026-01-01T00:00:00Z",
            "user": {"name": ACCOUNT, "username": ACCOUNT},
            "config": json.dumps(config),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "historyLineCount": len(self.history),
        }

    def matches(self, query: dict[str, Any]) -> bool:
        """Say whether a MongoDB filter holds.

        Raises:
            KeyError: at a word that MongoDB does not have.
        """
        for key, wanted in query.items():
            if key in ("$and", "$or"):
                holds = (all if key == "$and" else any)(self.matches(part) for part in wanted)
            elif isinstance(wanted, dict):
                holds = all(COMPARE[op](self.value(key), value) for op, value in wanted.items())
            else:
                holds = self.value(key) == wanted
            if not holds:
                return False
        return True

    def value(self, key: str) -> Any:
        """Look a filter's key up: `group`, `state`, `config.seed`, `summary_metrics.val_acc`."""
        part, _, name = key.partition(".")
        if name:
            return {"config": self.config, "summary_metrics": self.summary}[part].get(name)
        return {"group": self.group, "state": self.state, "displayName": self.title}[key]


class Stub(ThreadingHTTPServer):
    """The server; use `serve`."""

    block_on_close = True  # so that a connection that is left open is noticed
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, Run] = {}
        self.projects = {(ACCOUNT, "ssr_exp")}
        self.asked: list[dict[str, Any]] = []
        self.questions: list[str] = []  # the first line of each GraphQL question
        self.refusal: tuple[int, str] | None = None  # of listings: HTTP status, and what is told
        self.delay_s = 0.0  # before a listing is answered
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, *runs: Run) -> None:
        self.runs |= {run.name: run for run in runs}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the client drops connections that it no longer needs."""

    def upsert(self, of: dict[str, Any]) -> dict[str, Any]:
        """Make or change a run."""
        place = {"entity": of["entity"] or ACCOUNT, "project": of["project"]}
        run = self.runs.setdefault(of["name"], Run(of["name"], **place))
        self.projects.add((run.entity, run.project))
        run.group, run.title = of["groupName"] or run.group, of["displayName"] or run.title
        run.tags = of["tags"] or run.tags
        run.config |= {k: v["value"] for k, v in json.loads(of["config"] or "{}").items()}
        owner = {"name": run.project, "id": "1", "entity": {"name": run.entity, "id": "1"}}
        return {"upsertBucket": {"inserted": True, "bucket": run.node() | {"project": owner}}}

    def list(self, of: dict[str, Any]) -> dict[str, Any]:
        """List a page of a project's runs."""
        self.asked.append(of)
        place = (of["entity"], of["project"])
        if place not in self.projects:
            return {"project": None}
        query = json.loads(of["filters"])
        found = [
            run
            for run in self.runs.values()
            if (run.entity, run.project) == place and run.matches(query)
        ]
        start = int(of["cursor"] or 0)
        end = start + of["perPage"]
        edges = [{"node": r.node(), "cursor": str(end)} for r in found[start:end]]
        page = {
            "edges": edges,
            "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(found)},
        }
        counted = {"internalId": "1", "readOnly": False, "runCount": len(found)}
        return {"project": counted | {"runs": page}}

    def files(self, of: dict[str, Any]) -> dict[str, Any]:
        """Say where files may be sent to."""
        named = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in of["files"]]
        return {"createRunFiles": {"runID": of["run"], "uploadHeaders": [], "files": named}}

    def stream(self, run: Run, sent: dict[str, Any]) -> None:
        """Take a run's curves, summary and end."""
        for name, part in (sent.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]]
            if name == "wandb-history.jsonl":
                run.history[part["offset"] :] = lines
            elif name == "wandb-summary.json":
                run.summary = lines[-1]
        if sent.get("complete"):
            run.state = "finished" if sent["exitcode"] == 0 else "failed"


class Handler(BaseHTTPRequestHandler):
    """One connection of the client."""

    server: Stub
    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds that an idle connection is kept

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Basic " + b64encode(f"api:{KEY}".encode()).decode():
            self.answer({"errors": [{"message": "user is not logged in"}]}, 401)
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.server.runs[self.path.split("/")[4]], sent)
            self.answer({"exitcode": None, "limits": {}})
        else:
            self.graphql(sent["query"], sent.get("variables") or {})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({})

    def graphql(self, query: str, of: dict[str, Any]) -> None:
        server = self.server
        server.questions.append(query.removeprefix("#graphql").strip().split("(")[0].split()[1])
        viewer = {"id": "1", "entity": ACCOUNT, "username": ACCOUNT, "email": "", "flags": "{}"}
        if "query Runs(" in query:
            self.listing(of)
        elif "mutation UpsertBucket" in query:
            self.answer({"data": server.upsert(of)})
        elif "mutation CreateRunFiles" in query:
            self.answer({"data": server.files(of)})
        elif "viewer" in query:
            self.answer({"data": {"viewer": viewer | {"teams": {"edges": []}}}})
        else:
            self.answer({"data": {}})

    def listing(self, of: dict[str, Any]) -> None:
        self.server.closing.wait(self.server.delay_s)
        status, message = self.server.refusal or (200, "")
        data: dict[str, Any] = {}
        if not message:
            try:
                data = self.server.list(of)
            except KeyError as error:
                status, message = 400, f"unknown operator {error}"
        told = {"errors": [{"message": message, "path": ["project", "runs"]}]} if message else {}
        self.answer({"data": data} | told, status)

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve() -> Iterator[Stub]:
    """Serve until the block ends; the client must have ended by then."""
    with Stub() as stub:
        thread = threading.Thread(target=stub.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield stub
        finally:
            stub.closing.set()
            stub.shutdown()
            thread.join()
