"""A W&B server on loopback: as much of one as the real client needs to log runs and to list them.

The client's own process sends GraphQL to `/graphql` and a run's summary, curves and end to
`/files/ENTITY/PROJECT/RUN/file_stream`, and puts files where it is told to. What a test cares about
is kept: `runs` with their files, `artifacts`, `views` (workspaces and reports), and `asked`, the
variables of each listing. `refusal` and `delay_s` are for trouble.
"""

from __future__ import annotations

import json
import operator
import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

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
    job_type: str | None = None
    entity: str = ACCOUNT
    project: str = "ssr_exp"
    title: str = ""
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def node(self) -> dict[str, Any]:
        """Answer as `fragment RunFragment on Run` asks."""
        config = {key: {"value": value} for key, value in self.config.items()}
        absent = "sweepName commit description notes historyKeys".split()
        return dict.fromkeys(absent) | {
            "id": f"id-{self.name}",
            "projectId": "1",
            "name": self.name,
            "displayName": self.title,
            "tags": self.tags,
            "group": self.group,
            "jobType": self.job_type,
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

    def table(self, key: str) -> dict[str, Any]:
        """Read a table that was logged, by the key of its summary: `columns` and `data`."""
        content: dict[str, Any] = json.loads(self.files[self.summary[key]["path"]])
        return content

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
        own = {"group": self.group, "jobType": self.job_type, "state": self.state}
        return (own | {"displayName": self.title})[key]


@dataclass
class Artifact:
    """What the server knows of an artifact."""

    name: str
    kind: str
    run: str
    aliases: list[str]
    metadata: dict[str, Any]
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)


class Stub(ThreadingHTTPServer):
    """The server; use `serve`."""

    block_on_close = True  # so that a connection that is left open is noticed
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, Run] = {}
        self.artifacts: list[Artifact] = []
        self.views: list[dict[str, Any]] = []
        self.projects = {(ACCOUNT, "ssr_exp")}
        self.asked: list[dict[str, Any]] = []
        self.questions: list[str] = []  # the first line of each GraphQL question
        # Of what is read and of views, not of runs that are logged.
        self.refusal: tuple[int, str] | None = None  # HTTP status, and what is told
        self.delay_s = 0.0  # before an answer
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
        run.job_type = of["jobType"] or run.job_type
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
        place = f"{self.url}/upload/run/{of['run']}"
        named = [{"name": name, "uploadUrl": f"{place}/{name}"} for name in of["files"]]
        return {"createRunFiles": {"runID": of["run"], "uploadHeaders": [], "files": named}}

    def resume(self, of: dict[str, Any]) -> dict[str, Any]:
        """Say what is there of a run that is to be gone on with."""
        run = self.runs.get(of["name"])
        bucket = run and run.node() | {
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "logLineCount": 0,
            "eventsLineCount": 0,
            "wandbConfig": json.dumps({"t": 1}),  # it has logged
        }
        owner = {"id": "1", "name": of["project"], "entity": {"id": "1", "name": ACCOUNT}}
        return {"model": owner | {"bucket": bucket}}

    def artifact(self, of: dict[str, Any]) -> dict[str, Any]:
        """Make an artifact."""
        made = Artifact(
            name=of["artifactCollectionName"],
            kind=of["artifactTypeName"],
            run=of["runName"],
            aliases=[one["alias"] for one in of["aliases"]],
            metadata=json.loads(of.get("metadata") or "{}"),
        )
        self.artifacts.append(made)
        number = str(len(self.artifacts) - 1)
        told = {"id": number, "state": made.state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": told}}

    def manifest(self, answer: str, number: str) -> dict[str, Any]:
        """Say where an artifact's list of files may be sent to."""
        place = {"uploadUrl": f"{self.url}/upload/manifest/{number}", "uploadHeaders": []}
        return {answer: {"artifactManifest": {"id": number, "file": {"id": "1"} | place}}}

    def artifact_files(self, of: dict[str, Any]) -> dict[str, Any]:
        """Say where an artifact's files may be sent to."""
        edges = []
        for file in of["artifactFiles"]:
            place = f"artifact/{file['artifactID']}/{file['name']}"
            node = {"storagePath": place, "uploadUrl": f"{self.url}/upload/{place}"}
            rest = {"uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": node | rest | {"artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def commit(self, number: str) -> dict[str, Any]:
        """Take an artifact as whole."""
        self.artifacts[int(number)].state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": number, "digest": "0"}}}

    def take(self, path: str, content: bytes) -> None:
        """Take a file."""
        _, _, kind, owner, *rest = unquote(path).split("/", 4)
        name = "".join(rest)
        if kind == "run":
            self.runs[owner].files[name] = content
        elif kind == "artifact":
            self.artifacts[int(owner)].files[name] = content

    def view(self, of: dict[str, Any]) -> dict[str, Any]:
        """Save a workspace or a report."""
        kept = {key: of[key] for key in ("entityName", "projectName", "type", "displayName")}
        self.views.append(kept | {"spec": json.loads(of["spec"])})
        project = {"id": "1", "name": of["projectName"], "entityName": of["entityName"]}
        told = {key: of[key] for key in ("type", "name", "displayName", "description", "spec")}
        rest = {"id": f"view{len(self.views)}", "updatedAt": None, "project": project}
        return {"upsertView": {"inserted": True, "view": told | rest}}

    def known(self, of: dict[str, Any]) -> dict[str, Any]:
        """Say whether there is a project."""
        there = (of["entityName"], of["projectName"]) in self.projects
        return {"project": {"id": "1", "internalId": "1"} if there else None}

    def owned(self, of: dict[str, Any]) -> dict[str, Any]:
        """List the projects of an account."""
        names = [name for entity, name in sorted(self.projects) if entity == of["entity"]]
        rest = {
            "entityName": of["entity"],
            "createdAt": "2026-01-01T00:00:00Z",
            "isBenchmark": False,
            "user": None,
        }
        edges = [{"node": {"id": "1", "name": name} | rest, "cursor": "1"} for name in names]
        page = {"endCursor": None, "hasNextPage": False}
        return {"models": {"edges": edges, "pageInfo": page}}

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
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.take(self.path, content)
        self.answer({})

    def graphql(self, query: str, of: dict[str, Any]) -> None:
        server = self.server
        server.questions.append(query.removeprefix("#graphql").strip().split("(")[0].split()[1])
        viewer = {"id": "1", "entity": ACCOUNT, "username": ACCOUNT, "email": "", "flags": "{}"}
        logged: dict[str, Callable[[], dict[str, Any]]] = {
            "mutation UpsertBucket": lambda: server.upsert(of),
            "mutation CreateRunFiles": lambda: server.files(of),
            "query RunResumeStatus": lambda: server.resume(of),
            "query ArtifactType(": lambda: {"project": {"artifact": None}},
            "mutation CreateArtifact ": lambda: server.artifact(of["input"]),
            "mutation CreateArtifactManifest": lambda: server.manifest(
                "createArtifactManifest", of["artifactID"]
            ),
            "mutation UpdateArtifactManifest": lambda: server.manifest(
                "updateArtifactManifest", of["artifactManifestID"]
            ),
            "mutation CreateArtifactFiles": lambda: server.artifact_files(of["input"]),
            "mutation CommitArtifact": lambda: server.commit(of["artifactID"]),
        }
        asked: dict[str, Callable[[], dict[str, Any]]] = {
            "query Runs(": lambda: server.list(of),
            "query ProjectInternalId": lambda: server.known(of),
            "query GetProjects": lambda: server.owned(of),
            "upsertView(": lambda: server.view(of),
        }
        for words, reply in logged.items():
            if words in query:
                return self.answer({"data": reply()})
        for words, reply in asked.items():
            if words in query:
                return self.asked(reply)
        found = {"viewer": viewer | {"teams": {"edges": []}}} if "viewer" in query else {}
        self.answer({"data": found})

    def asked(self, reply: Callable[[], dict[str, Any]]) -> None:
        self.server.closing.wait(self.server.delay_s)
        status, message = self.server.refusal or (200, "")
        data: dict[str, Any] = {}
        if not message:
            try:
                data = reply()
            except KeyError as error:
                status, message = 400, f"unknown operator {error}"
        told = {"errors": [{"message": message, "path": ["project"]}]} if message else {}
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


def isolate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give W&B an environment of its own: an account, no settings, no server but the one named."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(folder / "wandb-own" / name.lower()))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")  # as in `make test`
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))


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
