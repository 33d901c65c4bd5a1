"""The page: one file that needs nothing else, where data stays data."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ssr_exp.report
from ssr_exp.errors import SsrError, without_paths
from ssr_exp.report import page, page_data
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import Store
from tests.report.conftest import FULL, STUDY, Put

ASSETS = Path(ssr_exp.report.__file__).parent / "assets"
# Of npm's echarts 6.1.0, dist/echarts.common.min.js.
CHARTS = "61f13280aba3161f77fc801bf5f9c786f55f10432153a0683fc5cc0700b013d5"
Attributes = dict[str, str | None]


class Parsed(HTMLParser):
    """A page as a browser's parser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, Attributes]] = []
        self.texts: list[tuple[str, str]] = []  # of script and style elements
        self.comments: list[str] = []
        self._open: list[str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = [tag, ""] if tag in ("script", "style") else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open[1] += data

    def handle_endtag(self, tag: str) -> None:
        if self._open is not None and tag == self._open[0]:
            self.texts.append((tag, self._open[1]))
            self._open = None

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def data(self) -> Any:
        """What the page's scripts read."""
        scripts = [text for tag, text in self.texts if tag == "script"]
        return json.loads(scripts[0])

    @property
    def scripts(self) -> list[str]:
        """What runs."""
        return [text for tag, text in self.texts if tag == "script"][1:]

    @property
    def policy(self) -> dict[str, list[str]]:
        (told,) = (
            str(a["content"])
            for tag, a in self.elements
            if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
        )
        parts = (part.split() for part in told.split(";"))
        return {name: sources for name, *sources in parts}


@pytest.fixture(scope="module")
def empty() -> Parsed:
    return Parsed(page.render({"version": "0", "created_at": "now", "studies": []}))


# One file


URLS = re.compile(r"""^\s*(https?:|//|file:|ftp:|data:text|javascript:)""", re.IGNORECASE)


def test_a_page_refers_to_nothing_outside_itself(empty: Parsed) -> None:
    references = ("src", "href", "srcset", "action", "data", "poster", "background", "formaction")
    found = [a[name] for _, a in empty.elements for name in references if name in a]
    assert found == ["#content"]
    assert not any(URLS.match(v or "") for _, a in empty.elements for v in a.values())
    tags = {tag for tag, _ in empty.elements}
    assert not tags & {"link", "iframe", "object", "embed", "base", "img", "frame", "image"}


def test_a_pages_style_fetches_nothing(empty: Parsed) -> None:
    (style,) = (text for tag, text in empty.texts if tag == "style")
    assert "$style" not in style and ":root" in style
    for word in ("@import", "url(", "http:", "https:", "expression(", "</"):
        assert word not in style.lower()


def test_our_scripts_fetch_nothing_and_read_no_markup() -> None:
    forbidden = (
        "fetch(",
        "XMLHttpRequest",
        "sendBeacon",
        "WebSocket",
        "EventSource",
        "import(",
        "importScripts",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
        "createContextualFragment",
    )
    for name in page.SCRIPTS:
        text = (ASSETS / name).read_text("utf-8")
        assert [word for word in forbidden if word in text] == [], name
        assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_the_policy_allows_these_very_scripts_and_nothing_else(empty: Parsed) -> None:
    policy = empty.policy
    assert policy["default-src"] == ["'none'"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in empty.scripts
    ]
    assert len(hashes) == 2
    assert policy["script-src"] == hashes
    assert not {"connect-src", "frame-src", "font-src", "object-src"} & set(policy)


def test_no_attribute_runs_a_script_for_the_policy_would_refuse_it(empty: Parsed) -> None:
    names = {name for _, attributes in empty.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]


def test_nothing_that_a_parser_would_change_is_in_a_script(empty: Parsed) -> None:
    """It would end the script, or its digest would no longer be the policy's."""
    for text in empty.scripts:
        assert len(text) > 10_000
        for odd in ("\r", "\0", "</script", "<!--", "$script", "$charts"):
            assert odd not in text.lower()


def test_the_policy_comes_before_whatever_it_is_about(empty: Parsed) -> None:
    tags = [tag for tag, _ in empty.elements]
    equivalents = [a.get("http-equiv") for _, a in empty.elements]
    policy = equivalents.index("Content-Security-Policy")
    assert policy < tags.index("style") < tags.index("script")
    assert tags.index("meta") < policy  # the character set is first
    assert empty.elements[tags.index("meta")][1] == {"charset": "utf-8"}


# Data


def test_what_is_shown_is_what_the_scripts_read(
    store: Store, put: Put, predict: Callable[..., Predictions]
) -> None:
    put(**FULL)
    put(origin="round1")
    predict(points=20)
    shown = page_data.collect(store)
    assert Parsed(page.render(shown)).data == plain(shown)


EVIL = {
    "end of script": "</script><script>alert(1)</script>",
    "upper case": "</SCRIPT ><svg onload=alert(1)>",
    "comment": "<!--<script>",
    "cdata": "]]>--><![CDATA[",
    "separators": "a\u2028b\u2029c",
    "quotes": '"\'`\\" \\u003c',
    "template": "$policy $data ${x} ${data} $$ $",
    "entities": "&lt;/script&gt; &amp; &#60;",
    "controls": "a\x00b\x01\x1b[31m\r\n\tz\x7f\x85",
    "bidi": "\u202eabc\ufeff\ufffe",
    "emoji": "\U0001f600 \u00e9\u0301",
}


def plain(shown: object) -> Any:
    """Make lists of tuples."""
    return json.loads(json.dumps(shown))


def check_is_data(parsed: Parsed, empty: Parsed) -> None:
    """Nothing but the data differs from a page without any."""
    assert parsed.elements == empty.elements
    assert parsed.scripts == empty.scripts
    assert [tag for tag, _ in parsed.texts] == [tag for tag, _ in empty.texts]
    assert parsed.comments == []
    data = next(text for tag, text in parsed.texts if tag == "script")
    assert not set("<>&") & set(data)  # browsers end a script at less than this parser does


@pytest.mark.parametrize("name", EVIL)
def test_names_errors_and_versions_stay_data(
    store: Store, put: Put, empty: Parsed, name: str
) -> None:
    evil = EVIL[name]
    put(
        study=evil,
        network=evil,
        model=evil,
        dataset=evil,
        device=evil,
        versions={evil: evil},
        git_commit=evil,
        origin=evil,
        status=Status.failed,
        val_acc=None,
        error=evil,
        latency_ms=1.0,
        latency_device=evil,
    )
    folder = store.study_folder(evil)
    (folder / "study.json").write_text(json.dumps({evil: {evil: evil}}))
    part = {"name": evil, "blocks": 3, "channels": 16}
    (folder / "network.json").write_text(json.dumps({"segments": [part] * 3}))
    path = page.write(store)
    (study,) = page_data.collect(store)["studies"]
    text = path.read_text("utf-8")
    parsed = Parsed(text)
    (same,) = parsed.data["studies"]
    assert same == plain(study)
    assert (same["name"], same["runs"][0]["error"]) == (evil, without_paths(evil))
    assert (same["segments"][0]["name"], same["about"]["versions"]) == (evil, {evil: [evil]})
    check_is_data(parsed, empty)


@pytest.mark.parametrize("place", ["segment", "field"])
def test_half_a_character_can_be_written(store: Store, put: Put, place: str) -> None:
    put()
    folder = store.study_folder(STUDY)
    half = "a\\ud83db\\ude00"
    part = f'{{"name": "{half}", "blocks": 3, "channels": 16}}'
    files = {
        "segment": ("network.json", f'{{"segments": [{part}, {part}, {part}]}}'),
        "field": ("study.json", f'{{"{half}": "{half}"}}'),
    }
    name, text = files[place]
    (folder / name).write_text(text)
    parsed = Parsed(page.write(store).read_text("utf-8"))
    (study,) = parsed.data["studies"]
    told = (
        study["segments"][0]["name"] if place == "segment" else next(iter(study["about"]["fields"]))
    )
    assert told == "a\ud83db\ude00"


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=40))
def test_any_text_survives_its_element(text: str) -> None:
    embedded = page._embedded({text: [text]})
    assert json.loads(embedded) == {text: [text]}
    assert not re.search("[<>&\u2028\u2029\r\n\0]", embedded)
    embedded.encode()


def test_numbers_that_json_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        page.render({"x": float("nan")})


# Its file


def test_a_page_is_in_the_folder_of_the_runs_or_where_it_is_asked_for(
    store: Store, put: Put, tmp_path: Path
) -> None:
    put()
    assert page.write(store) == store.root / "report.html"
    to = tmp_path / "elsewhere" / "below" / "page.html"
    assert page.write(store, to=to) == to
    assert Parsed(to.read_text("utf-8")).data["studies"][0]["name"] == STUDY
    assert Parsed(page.write(store, only=["none"]).read_text("utf-8")).data["studies"] == []


def test_a_folder_without_runs_has_a_page_that_says_so(store: Store) -> None:
    assert Parsed(page.write(store).read_text("utf-8")).data["studies"] == []


def test_a_page_is_no_record_and_no_study(store: Store, put: Put) -> None:
    put()
    first = page_data.collect(store)["studies"]
    page.write(store)
    assert page_data.collect(store)["studies"] == first


def test_a_full_disk_is_a_sentence_and_leaves_the_page_of_before(
    store: Store, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = page.write(store)
    before = path.read_bytes()
    put()

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SsrError, match="the disk is full") as caught:
        page.write(store)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in store.root.iterdir() if not p.is_dir()] == ["report.html"]


def test_a_place_that_cannot_be_written_is_a_sentence(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    for to in (tmp_path / "file" / "page.html", tmp_path / "folder"):
        with pytest.raises(SsrError, match="cannot write to") as caught:
            page.write(store, to=to)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "kept"
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_folder_that_is_read_only_is_a_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error of the disk: root may write anywhere."""
    store.root.mkdir()

    def refused(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(SsrError, match=r"cannot write to .*: Permission denied"):
        page.write(store)
    assert list(store.root.iterdir()) == []


# Its parts


def test_every_script_is_listed_once_and_is_there() -> None:
    there = {path.name for path in ASSETS.glob("*.js")}
    assert there == {*page.SCRIPTS, page.CHARTS}
    assert len(set(page.SCRIPTS)) == len(page.SCRIPTS)
    assert {path.name for path in ASSETS.iterdir()} >= {"page.html", "page.css"}


def test_the_charts_are_the_published_ones_with_their_licence() -> None:
    text = (ASSETS / page.CHARTS).read_bytes()
    assert hashlib.sha256(text).hexdigest() == CHARTS
    assert b"Licensed to the Apache Software Foundation (ASF)" in text[:1000]
    assert b"apache.org/licenses/LICENSE-2.0" in text[:1000]


def test_a_page_is_small_enough_to_be_sent() -> None:
    assert len(page.render({"studies": []})) < 1_000_000


def test_the_scripts_find_what_they_look_for_in_the_page(empty: Parsed) -> None:
    ids = [a["id"] for _, a in empty.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    scripts = "\n".join((ASSETS / name).read_text("utf-8") for name in page.SCRIPTS)
    wanted = set(re.findall(r'(?:byId|getElementById)\("([\w-]+)"\)', scripts))
    assert wanted and wanted <= set(ids)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_every_script_is_javascript_alone_and_all_of_them_together(
    empty: Parsed, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.js"
    whole.write_text(empty.scripts[1])
    for path in (whole, *(ASSETS / name for name in page.SCRIPTS)):
        done = subprocess.run(
            ["node", "--check", str(path)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
