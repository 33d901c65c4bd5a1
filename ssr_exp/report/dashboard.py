"""A study's dashboard in W&B: a saved view of its workspace, and a report to read and to share.

Both are descriptions that W&B fills with runs whenever they are looked at: nothing is copied. They
tell runs apart by group (the study) and job type (why a network was trained). Building one sends
no figures; only `publish` talks to a server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ssr_exp.config import LoggerConf, WandbMode
from ssr_exp.errors import SsrError
from ssr_exp.report import panels
from ssr_exp.report.panels import Client, Facts
from ssr_exp.runs import store
from ssr_exp.runs.record import Kind, Record

MOST_AXES = 24  # more cannot be told apart side by side
LONGEST_TITLE = 128


@dataclass(frozen=True)
class Published:
    """Where a dashboard is to be seen."""

    workspace: str
    report: str


def gather(
    records: Sequence[Record],
    *,
    entity: str,
    project: str,
    study: str,
    searched: bool = False,
    best: Record | None = None,
) -> Facts:
    """Say what a study's records let a dashboard show.

    Raises:
        SsrError: if no record is of the study.
    """
    from ssr_exp.runs.wandb import training_run

    records = [record for record in records if record.study == study]
    if not records:
        raise SsrError(
            f"no record is of study {study}: type study=NAME with a folder of paths.runs."
        )
    shares = {share for record in records for share in training_run.axes(record).items()}
    counts = Counter(key for key, _ in shares)
    axes = [key for record in records for key in training_run.axes(record) if counts[key] > 1]
    costs = [cost for cost in panels.COSTS if any(getattr(r, cost) is not None for r in records)]
    axes, score = list(dict.fromkeys(axes))[:MOST_AXES], records[0].scored_by
    return Facts(entity, project, study, tuple(axes), tuple(costs), searched, best, score)


def workspace(facts: Facts) -> Any:
    """Build the workspace's view."""
    use = panels.client()
    ws, wr = use.workspaces, use.reports
    sections = {
        f"{facts.score.title} against cost": panels.scatters(facts, wr),
        "Modifiers": panels.modifiers(facts, wr),
        "Surrogate": panels.surrogate(facts, wr) if facts.searched else [],
        "Training": [wr.LinePlot(title=facts.score.heading, x="epoch", y=[facts.score.key])],
    }
    return ws.Workspace(
        entity=facts.entity,
        project=facts.project,
        name=_title(facts),
        sections=[
            ws.Section(name=n, panels=shown, is_open=True) for n, shown in sections.items() if shown
        ],
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=panels.filters(use, facts.study),
            pinned_columns=[
                f"summary:{key}" for key in (panels.logged_as(facts.score), *facts.costs)
            ],
        ),
    )


def report(facts: Facts) -> Any:
    """Build the report."""
    from ssr_exp.runs.wandb import training_run

    use = panels.client()
    wr = use.reports
    runsets = panels.runsets(facts, use)
    blocks = [
        wr.TableOfContents(),
        wr.H1(f"{facts.score.title} against cost"),
        wr.P("Sentinels and other first networks beside what the surrogate proposed."),
        wr.PanelGrid(runsets=runsets, panels=panels.laid(wr, panels.scatters(facts, wr))),
        *_modifier_blocks(facts, wr, runsets),
    ]
    if facts.searched:
        search = panels.runset(facts, use, "search", [training_run.SEARCH])
        blocks += [
            wr.H1("The surrogate"),
            wr.P("How far it is to be believed: errors are of trainings that it was not shown."),
            wr.PanelGrid(runsets=[search], panels=panels.laid(wr, panels.surrogate(facts, wr))),
        ]
    blocks += _best_blocks(facts, use)
    return wr.Report(
        project=facts.project,
        entity=facts.entity,
        title=_title(facts),
        description="Structured Segment Rescaling: what each size of a ConvNet costs and scores.",
        blocks=blocks,
        width="fluid",
    )


def publish(
    records: Sequence[Record],
    *,
    logger: LoggerConf,
    study: str,
    searched: bool = False,
    best: Record | None = None,
) -> Published:
    """Save a study's workspace view and report on the server.

    Args:
        records: of the study, from wherever; they say what the panels are of.
        logger: whose project it is, and how long the server may take for each answer.
        study: the runs' group.
        searched: whether a search logs a run of its own.
        best: the answer's record.

    Raises:
        SsrError: if wandb-workspaces or the API key is missing, the project is unknown, or the
            server refuses or is too slow.
    """
    if logger.mode is WandbMode.disabled:
        raise SsrError("to=wandb needs W&B: type logger=offline or logger=online with it.")
    panels.client()
    with _connected(logger) as api, panels.quiet():
        entity = logger.entity or api.default_entity
        if entity is None:
            raise SsrError("the account has no entity of its own: type logger.entity=NAME.")
        place = {"entity": entity, "project": logger.project}
        facts = gather(records, **place, study=study, searched=searched, best=best)
        written = report(facts).save()  # the first, as it says whether there is such a project
        saved = workspace(facts).save()
        return Published(workspace=str(saved.url), report=str(written.url))


def _connected(logger: LoggerConf) -> AbstractContextManager[Any]:
    """Ask W&B, with an advice for whoever publishes."""
    from ssr_exp.runs.wandb.api import ApiRequest, connect

    request = ApiRequest(
        what="publish to W&B",
        entity=logger.entity,
        project=logger.project,
        timeout_s=logger.timeout_s,
        slower="logger.timeout_s=SECONDS",
        elsewhere="logger.entity=NAME logger.project=NAME, once its runs are there (wandb sync)",
        instead="to=page",
    )
    return connect(request)


def _title(facts: Facts) -> str:
    """Name view and report; the name is part of an address."""
    return store.folder_name(f"ssr_exp-{facts.study}")[:LONGEST_TITLE]


def _modifier_blocks(facts: Facts, wr: Any, runsets: list[Any]) -> list[Any]:
    shown = panels.laid(wr, panels.modifiers(facts, wr), columns=1)
    return [wr.H1("Modifiers"), wr.PanelGrid(runsets=runsets, panels=shown)] if shown else []


def _best_blocks(facts: Facts, use: Client) -> list[Any]:
    """Name the search's answer, and say how it is fetched."""
    if facts.best is None:
        return []
    from ssr_exp.runs.wandb import search_run

    wr, best = use.reports, facts.best
    score = best.scored_by
    measured = {score.name: best.score, score.on("test").name: best.test_score}
    shown = [f"{name} {score.text(v)}" for name, v in measured.items() if v is not None]
    share = best.params / best.baseline_params
    words = [f"{best.params:,} parameters ({share:.1%} of the baseline's)", *shown]
    place = f"{facts.entity}/{facts.project}/{search_run.artifact(facts.study)}"
    code = [
        "import wandb",
        "from ssr_exp.rescaling import saved",
        f"name = {f'{place}:{search_run.ALIAS}'!r}",
        'network = saved.load(wandb.Api().artifact(name, type="model").download())',
    ]
    blocks = [
        wr.H1("Best network"),
        wr.P([wr.InlineCode(best.network), f" {best.model}: {', '.join(words)}."]),
        wr.CodeBlock("\n".join(code), language="python"),
    ]
    if best.test_score is not None:  # they are of another study, since they have learned from val
        kinds = [Kind.finalist.value]
        finalists = panels.runset(facts, use, "finalists", kinds, study=best.study)
        bars = wr.BarPlot(
            title=f"{score.on('test').heading} of the finalists",
            metrics=[panels.logged_as(score, "test")],
        )
        blocks.append(wr.PanelGrid(runsets=[finalists], panels=panels.laid(wr, [bars])))
    return blocks
