"""What `ssr export` calls: where a network's images are known, its files are written."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ssr_exp.app import configuration, verification_inputs
from ssr_exp.config import ExportConfig
from ssr_exp.edge import selection
from ssr_exp.edge.export import exported, exporter, hub
from ssr_exp.errors import SsrError
from ssr_exp.runs import verdict
from ssr_exp.runs.store import EXPORTS

log = logging.getLogger(__name__)


def write(composed: Any) -> str:
    """Export the network that a configuration names; prints the files, and last their folder.

    Raises:
        SsrError: if it cannot be exported, or one of its formats failed.
    """
    request = configuration.read(composed, ExportConfig)
    if isinstance(request.format, str):
        request.format = [request.format]
    exporter.check(request)
    if request.push is not None:
        hub.check(request.push)
    chosen = selection.find(
        Path(request.paths.runs),
        request.run,
        study=request.study,
        seed=request.seed,
        trust=request.trust,
    )
    if (part := chosen.about.part) is not None:
        raise SsrError(
            f"{chosen.label} is a whole network of which {part.path} was rescaled, and a study "
            "does not keep how the whole is called: export study.trained(code) with your own code."
        )
    to = Path(request.to) if request.to else chosen.folder / EXPORTS / chosen.label
    to = to.expanduser().resolve()
    exporter.check_folder(to)
    parts, how = verification_inputs.find(request, chosen)
    outcome = exporter.write(chosen, parts, request, to, how=how)
    exported.print_table(outcome, chosen.record.scored_by, request, sample=chosen.sample)
    print(f"weights of {chosen.record.network}: {verdict.weights(chosen.record)}")
    if chosen.verdict is not None:
        log.warning("%s: %s", chosen.record.network, chosen.verdict)
    if request.push is not None:
        address = hub.push(outcome.folder, request.push)
        later = hub.command(outcome.folder, request.push)
        offline = f"not pushed, HF_HUB_OFFLINE is set; type later: {later}"
        print(offline if address is None else f"pushed to {address}")
    print(f"export: {outcome.folder}", flush=True)
    if outcome.failed:
        raise SsrError(f"{len(outcome.failed)} files failed: {'; '.join(outcome.failed)}.")
    return str(outcome.folder)
