"""How a search ends: which networks are tested, in what order, and which one is handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ssr_exp.app import judging, search_ending
from ssr_exp.app.search_ending import Ending
from ssr_exp.config import Arm, Objective
from ssr_exp.errors import SsrError
from ssr_exp.report import search_results, trade_offs
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import FINALIST, Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.search import answer, costs, decision, history, retries
from ssr_exp.search.belief import Belief
from ssr_exp.search.space import Space
from ssr_exp.training import finalists
from ssr_exp.training.finalists import Sibling
from tests.search.conftest import First, Tell, asked, first, small, tell, unfitted  # noqa: F401

pytestmark = pytest.mark.usefixtures("unfitted")


@dataclass
class World:
    """Trainings that take no time: finalists lose on test what `drops` says, else nothing."""

    belief: Belief
    tell: Tell
    drops: dict[str, float]
    trained: dict[tuple[str, int], Record] = field(default_factory=dict)
    launched: list[tuple[str, int]] = field(default_factory=list)
    stop_after: int | None = None
    kept: list[tuple[str, int]] = field(default_factory=list)  # from being removed by others
    diverging: list[str] = field(default_factory=list)
    display: Any = field(default_factory=SimpleNamespace)

    def compose(self, words: Sequence[str]) -> Any:
        return SimpleNamespace(words=words)

    def members(self, jobs: Sequence[Sequence[str]]) -> list[Any]:
        def member(words: Sequence[str]) -> Any:
            values = dict(word.split("=", 1) for word in words)
            key = values["modifiers.network"], int(values.get("seed", 0))
            is_done = key in self.trained
            return SimpleNamespace(key=key, record=lambda: self.trained.get(key), is_done=is_done)

        return [member(words) for words in jobs]

    def use(self, members: Sequence[Any]) -> None:
        self.kept += [member.key for member in members]

    def train(self, members: Sequence[Any]) -> dict[str, object]:
        assert {member.key for member in members} <= {*self.kept}
        for member in members:
            if member.key in self.trained:
                continue
            if self.stop_after is not None and len(self.launched) >= self.stop_after:
                raise KeyboardInterrupt
            self.launched.append(member.key)
            network, seed = member.key
            test = 80.0 - self.drops.get(network, 0.0) + 0.01 * seed
            architecture = self.belief.history.space.parse(network)
            told: dict[str, object] = {"test_acc": test}
            if network in self.diverging:
                told = {"status": Status.diverged, "val_acc": None}
            self.trained[member.key] = self.tell(architecture, seed=seed, **told)
        return {}


@pytest.fixture
def make(
    small: Space,  # noqa: F811
    tell: Tell,  # noqa: F811
    first: First,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[World, Ending, list[Architecture]]]:
    def made(
        affordable: Callable[[int], int] = lambda count: count, **changes: object
    ) -> tuple[World, Ending, list[Architecture]]:
        conf = asked(objective__max_drop=3.0, objective__confidence=0.6, **changes)
        known = history.from_records(small, [tell(a) for a in first])
        belief = Belief.from_history(known, conf)
        world = World(belief, tell, {})
        study = SimpleNamespace(name="study", plan=small.plan, splits=None)
        ending = Ending(world, (), conf, study, belief, affordable, lambda: belief, print)  # type: ignore[arg-type]
        monkeypatch.setattr(
            Ending, "_hand_over", lambda _, member, metrics, *__: [(member.key[0], metrics)]
        )
        return world, ending, answer.good_enough(belief)

    return made


Make = Callable[..., tuple[World, Ending, list[Architecture]]]


def code(ending: Ending, architecture: Architecture) -> str:
    return ending.belief.history.space.code(architecture)


def order(world: World) -> list[str]:
    return list(dict.fromkeys(network for network, _ in world.launched))


def surer(ending: Ending, answers: Sequence[Architecture]) -> list[str]:
    """List what is tried one after the other: the cheapest that is surer than all before."""
    tried = [answers[0]]
    while (one := retries.next_best(ending.belief, tried)) is not None:
        tried.append(one)
    return [code(ending, a) for a in tried]


def test_an_answer_that_keeps_the_promise_is_all_that_is_tested(make: Make) -> None:
    world, ending, answers = make()
    ((chosen, metrics),) = ending.carry_out()
    assert chosen == code(ending, answers[0])
    assert order(world) == [code(ending, ending.belief.history.space.plan.baseline), chosen]
    assert [row["role"] for row in metrics["results"]] == ["baseline", "answer"]


def test_a_cheaper_network_that_was_passed_over_is_tested_once_it_is_promised(make: Make) -> None:
    """A likelier one came before it, where the first lost too much."""
    _, ending, (cheapest, second, third, *_) = make()
    choice = retries.Retries(ending.belief, 2, 1, lambda count: count)
    decided = decision.Decision(second, 0.0, is_kept=True, verdict=None, drops={second: 0.0})
    assert choice.next_cheaper(ending.belief, decided, [second], first=1) == cheapest
    decided = replace(decided, drops={cheapest: 9.0, second: 0.0, third: 0.0})
    for tried in ([second, cheapest], [second, third, cheapest]):
        assert choice.next_cheaper(ending.belief, decided, tried, first=1) is None


@pytest.mark.parametrize("is_same", [True, False])
def test_a_sibling_that_is_the_network_of_another_arm_is_trained_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_same: bool
) -> None:
    _, ending, (chosen, *_) = make(finalists__arms=[Arm.uniform_depth, Arm.family])
    space, plan = ending.belief.history.space, ending.study.plan
    others = answer.contenders(ending.belief, ending.conf, [chosen])
    (arm,) = (one for one in others if one.role == "uniform depth")
    own = cost.count_one(plan, space.parse(str(arm.network)))
    sibling = Sibling("resnet8", str(arm.network), own if is_same else own._replace(gemms=1))
    monkeypatch.setattr(finalists, "sibling", lambda *_: sibling)
    with caplog.at_level("INFO"):
        named = ending._family(chosen, others)
    assert [one.model for one in named] == ([] if is_same else ["resnet8"])
    assert ("the network of uniform depth: it is trained once" in caplog.text) is is_same


def test_the_next_best_is_tested_where_the_answer_loses_too_much(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world, ending, answers = make()
    first_, second, *_ = surer(ending, answers)
    world.drops[first_] = 4.0
    with caplog.at_level("INFO"):
        ((chosen, metrics),) = ending.carry_out()
    assert chosen == second and order(world)[1:] == [first_, second]
    assert [row["role"] for row in metrics["results"]] == ["baseline", "answer", "finalist 2"]
    assert metrics["results"][1]["network"] == second
    assert metrics["drop"] == pytest.approx(0.0)
    assert f"{first_} loses 4.00 points; the next one is trained, {second}" in caplog.text


def test_an_answer_whose_finalists_diverged_is_followed_by_the_next_best(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world, ending, answers = make(finalists__retries=1)
    first_, second, *_ = surer(ending, answers)
    world.diverging.append(first_)
    with caplog.at_level("INFO"):
        ((chosen, metrics),) = ending.carry_out()
    assert chosen == second and metrics["drop"] == pytest.approx(0.0)
    assert [row["role"] for row in metrics["results"]] == ["baseline", "answer"]
    assert f"{first_} has no score; the next one is trained, {second}" in caplog.text


def test_where_no_answer_has_a_test_score_it_is_said_what_gives_one(make: Make) -> None:
    world, ending, answers = make(finalists__retries=1, finalists__seeds=1)
    baseline = code(ending, ending.belief.history.space.plan.baseline)
    world.diverging += (tried := surer(ending, answers)[:2])
    with pytest.raises(SsrError, match=r"finalists\.seeds=2 or more where") as raised:
        ending.carry_out()
    assert f"of {', '.join(tried)} failed or diverged" in str(raised.value)
    world.trained.clear()
    world.diverging = [baseline]
    with pytest.raises(SsrError, match=f"of {baseline} failed or diverged"):
        ending.carry_out()


def test_what_a_command_before_has_tested_counts_and_a_better_answer_is_not_lost(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another `objective.max_drop`, or no retries, would name another network first."""
    world, ending, answers = make(finalists__retries=0)
    first_, *_, other = (code(ending, a) for a in ending.belief.networks if a in answers)
    if first_ != code(ending, answers[0]):
        first_, other = code(ending, answers[0]), first_
    baseline = code(ending, ending.belief.history.space.plan.baseline)
    parse = ending.belief.history.space.parse
    earlier = [
        world.tell(parse(network), seed=9, test_acc=80.0 - drop, origin=FINALIST)
        for network, drop in ((baseline, 0.0), (other, 1.0))
    ]
    monkeypatch.setattr(search_results, "read_finals", lambda *_: earlier)
    world.drops |= {first_: 40.0, other: 1.0}
    ((chosen, metrics),) = ending.carry_out()
    assert chosen == other and metrics["drop"] == pytest.approx(1.0)
    assert order(world) == [baseline, first_, other]  # with this command's seeds, too
    kept = [row["network"] for row in metrics["results"] if row["role"] == "answer"]
    assert kept == [other]


def test_what_commands_before_compared_stays_in_the_table_and_their_arms_stay_arms(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, ending, answers = make()
    space, others = ending.belief.history.space, [a for a in answers if a != answers[0]]
    baseline, arm, loser = space.plan.baseline, *others[:2]
    earlier = [
        world.tell(a, seed=9, test_acc=80.0 - drop, origin=FINALIST)
        for a, drop in ((baseline, 0.0), (arm, 0.5), (loser, 9.0))
    ]
    monkeypatch.setattr(Store, "records", lambda *_: earlier)
    before = ({"role": "uniform width", "network": code(ending, arm)},)
    rows = tuple(SimpleNamespace(**row) for row in before)
    told = SimpleNamespace(results=rows, finals_study=None)
    monkeypatch.setattr(search_results, "read_comparison", lambda *_: told)
    ((_, metrics),) = ending.carry_out()
    assert {row["network"]: row["role"] for row in metrics["results"]} == {
        code(ending, baseline): "baseline",
        code(ending, answers[0]): "answer",
        code(ending, arm): "earlier uniform width",
        code(ending, loser): "finalist 2",
    }
    assert "earlier uniform width" in capsys.readouterr().out


def test_an_arm_that_lost_too_much_speaks_against_what_lies_within_it_and_decides_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, ending, answers = make(finalists__arms=[Arm.random])
    space, handed = ending.belief.history.space, list[decision.Decision]()
    monkeypatch.setattr(Ending, "_hand_over", lambda *given: handed.append(given[3]) or [])
    named = answer.contenders(ending.belief, ending.conf, answers[:1])
    (arm,) = (str(one.network) for one in named if one.role == "random")
    for drop in (9.0, -1.0):
        world.drops[arm] = drop
        world.trained.clear()
        ending.carry_out()
        decided = handed.pop()
        assert decided.network == answers[0]
        assert decided.drops[space.parse(arm)] == pytest.approx(drop)
    # Of a command before, as `rounds=0` and `Study.answer` read it.
    monkeypatch.setattr(Store, "records", lambda *_: [*world.trained.values()])
    for one, record in world.trained.items():
        world.trained[one] = record.model_copy(update={"origin": FINALIST})
    row = SimpleNamespace(role="random", network=arm)
    told = SimpleNamespace(results=(row,), finals_study=None)
    monkeypatch.setattr(search_results, "read_comparison", lambda *_: told)
    decided = judging.decide(Store("runs"), "study", ending.belief, ending.belief)
    assert (decided.network, decided.is_kept) == (answers[0], True)
    assert decided.drops[space.parse(arm)] == pytest.approx(-1.0)
    # What a search with other frozen segments tested is none of this lattice's.
    for one, record in [*world.trained.items()]:
        world.trained["d7-7-7_w3-3-3", one[1]] = record.model_copy(
            update={"network": "d7-7-7_w3-3-3"}
        )
    again = judging.decide(Store("runs"), "study", ending.belief, ending.belief)
    assert again.drops == decided.drops and again.network == decided.network


def test_a_cheaper_network_that_is_promised_since_finalists_scored_is_tested_and_handed_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, ending, answers = make()
    told: list[Belief] = []
    surer = asked(objective__max_drop=3.0, objective__confidence=0.97)
    before = replace(Belief.from_history(ending.belief.history, surer), confidence=0.6)
    since = replace(ending, belief=before, look=lambda: ending.belief, tell=told.append)
    first_, cheaper = answer.good_enough(before)[0], answers[0]
    assert first_ != cheaper  # the finalists have taught it that this one is enough, too
    ((chosen, _),) = since.carry_out()
    assert chosen == code(ending, first_)  # they learn from val, and score on nothing but test
    monkeypatch.setattr(search_ending.finalists, "learns_val", lambda _: False)
    world.launched.clear()
    ((chosen, metrics),) = since.carry_out()
    assert chosen == code(ending, cheaper) and order(world)[-1] == chosen
    assert [row["role"] for row in metrics["results"]] == ["baseline", "answer", "finalist 2"]
    world.drops[code(ending, cheaper)] = 9.0
    world.trained.clear()
    ((chosen, _),) = since.carry_out()
    assert chosen != code(ending, cheaper)


def test_a_drop_is_of_all_seeds_that_finalists_were_trained_with(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands before trained more seeds: `rounds=0` and `Study.answer` count them, too."""
    world, ending, answers = make(finalists__seeds=1)
    chosen, baseline = answers[0], ending.belief.history.space.plan.baseline
    earlier = [
        world.tell(a, seed=seed, test_acc=80.0 - drop, origin=FINALIST)
        for a, drop in ((baseline, 0.0), (chosen, 2.0))
        for seed in (8, 9)
    ]
    world.trained |= {(r.network, r.seed): r for r in earlier}
    monkeypatch.setattr(Store, "records", lambda *_: earlier)
    ((network, metrics),) = ending.carry_out()
    assert network == code(ending, chosen) and len(world.launched) == 2
    assert metrics["drop"] == pytest.approx(4 / 3)
    assert [metrics["measured"][role]["seeds"] for role in ("answer", "baseline")] == [3, 3]


def test_records_are_read_once_however_many_networks_were_tested(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ending, answers = make(finalists__count=3)
    named = answer.contenders(ending.belief, ending.conf, answers[:3])
    members, read = ending._trained(named), list[str]()
    monkeypatch.setattr(Store, "records", lambda _, study: read.append(study) or [])
    assert len(ending._results(members)) == len(named) > 2
    assert len(read) == 1


def test_after_a_retry_it_is_said_whose_cost_the_arms_have(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    world, ending, answers = make(finalists__arms=[Arm.random])
    first_ = code(ending, answers[0])
    ending.carry_out()
    assert "of the cost of" not in capsys.readouterr().out
    world.drops[first_] = 4.0
    world.trained.clear()
    ending.carry_out()
    assert f"random: of the cost of {first_}, which was tested first" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_trade_off_says_how_many_networks_are_on_it(make: Make) -> None:
    _, ending, _ = make()
    records = list(ending.belief.history.records)
    told = trade_offs.size(records, ending.conf.objective)["front"]
    assert 1 <= told["networks"] < told["trained"] == len(ending.belief.networks)
    _, ending, _ = make(objective__kind=Objective.smallest)
    assert trade_offs.size(records, ending.conf.objective) == {}


def test_an_answers_record_names_the_device_of_its_latency_or_none(make_record: Any) -> None:
    record = make_record(latencies={"gpu": 3.0})
    for device, name, times in (("phone", "phone", {"phone": 2.0}), (costs.UNNAMED, None, {})):
        told = search_ending._with_latency(record, answer.DeviceLatency(2.0, device, True))
        assert (told.latency_ms, told.latency_device) == (2.0, name)
        assert told.latencies == {"gpu": 3.0} | times


def test_where_all_lose_too_much_the_least_loss_is_handed_over(make: Make) -> None:
    world, ending, answers = make(finalists__retries=2)
    one, two, three = surer(ending, answers)[:3]
    world.drops |= {one: 6.0, two: 4.0, three: 5.0}
    ((chosen, metrics),) = ending.carry_out()
    assert chosen == two and order(world)[1:] == [one, two, three]
    assert metrics["drop"] == pytest.approx(4.0)


def test_where_finalists_learn_from_train_alone_the_best_on_val_is_handed_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ending, answers = make()
    monkeypatch.setattr(Ending, "_hand_over", lambda _, member, *__: [member.key])
    ((chosen, seed),) = ending.carry_out()
    trained = ending.command.trained  # type: ignore[attr-defined]
    values = {s: r.score for (n, s), r in trained.items() if n == chosen}
    assert chosen == code(ending, answers[0]) and seed == max(values, key=lambda s: values[s])


def test_networks_that_are_known_from_elsewhere_are_compared_without_finalists(
    make: Make, tmp_path: Path
) -> None:
    """As of `runs=table`: no record of theirs lies in the folder of runs."""
    world, ending, answers = make(finalists__seeds=0, paths__runs=str(tmp_path))
    chosen = answers[0]
    world.trained[code(ending, chosen), 0] = world.tell(chosen)
    ((handed, metrics),) = ending.carry_out()
    assert handed == code(ending, chosen) and world.launched == []
    assert metrics["measured_on"] == "val" and metrics["measured"]["baseline"]["seeds"] == 1


def test_without_finalists_what_was_tested_before_decides_as_it_does_everywhere(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its study is kept in mind, too: `best/` holds the search's own training, of another one."""
    world, ending, answers = make(finalists__seeds=0, paths__runs=str(tmp_path))
    handed: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Ending, "_hand_over", lambda _, *given: handed.append(given) or [])
    lost, kept, baseline = *answers[:2], ending.belief.history.space.plan.baseline
    finals = [
        world.tell(a, seed=9, test_acc=80.0 - drop, origin=FINALIST, study="on val, too")
        for a, drop in ((baseline, 0.0), (lost, 9.0), (kept, 1.0))
    ]
    monkeypatch.setattr(search_results, "read_finals", lambda *_: [*finals])
    for chosen, is_kept in ((kept, True), (lost, False)):
        ending.carry_out()
        member, metrics, decided, _ = handed.pop()
        assert (member.key, decided.network) == ((code(ending, chosen), 0), chosen)
        assert decided.is_kept is is_kept and (decided.verdict is None) is is_kept
        assert metrics["measured_on"] == "val" and metrics["finals_study"] == "on val, too"
        roles = {row["network"]: row["role"] for row in metrics["results"]}
        assert roles[code(ending, chosen)] == "answer"
        finals.pop()
    assert world.launched == []


@pytest.mark.parametrize("why", ["no retries", "no budget"])
def test_without_retries_or_a_budget_for_them_the_answer_stays(make: Make, why: str) -> None:
    changes: dict[str, Any] = {"finalists__retries": 0}
    if why == "no budget":
        changes = {"affordable": lambda count: min(count, 2)}
    world, ending, answers = make(**changes)
    world.drops[code(ending, answers[0])] = 4.0
    ((chosen, metrics),) = ending.carry_out()
    assert chosen == code(ending, answers[0]) and len(order(world)) == 2
    assert metrics["drop"] == pytest.approx(4.0)


def test_a_killed_retry_goes_on_and_a_finished_one_repeats_nothing(make: Make) -> None:
    world, ending, answers = make()
    world.drops[code(ending, answers[0])] = 4.0
    world.stop_after = 7  # of nine: in the middle of the retry
    with pytest.raises(KeyboardInterrupt):
        ending.carry_out()
    world.stop_after = None
    before = ending.carry_out()
    assert len(world.launched) == len(set(world.launched)) == 9
    assert ending.carry_out() == before and len(world.launched) == 9


def test_a_repeated_search_tells_no_old_news(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world, ending, answers = make(finalists__retries=2)
    tried = surer(ending, answers)
    first_ = tried[0]
    world.drops |= {first_: 4.0}
    with caplog.at_level("INFO"):
        ending.carry_out()
        assert "finalists: " in caplog.text and "the next one is trained" in caplog.text
        caplog.clear()
        ending.carry_out()
        assert caplog.text == ""
        world.drops |= dict.fromkeys(tried, 4.0)
        world.trained.clear()
        ending.carry_out()
        caplog.clear()
        ending.carry_out()
    (line,) = caplog.messages  # what is still true: why nothing more is tested
    assert "finalists.retries=2 allows no further one" in line and f"{first_} loses 4.00" in line


@pytest.mark.parametrize("was_tested", [False, True])
def test_that_the_baseline_is_the_answer_is_said_first_and_only_where_it_is(
    make: Make,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    was_tested: bool,
) -> None:
    """A network that a command before has tested, and that kept within the drop, is the answer."""
    _, ending, answers = make()
    baseline = ending.study.plan.baseline
    one = next(a for a in answers if a != baseline)
    monkeypatch.setattr(answer, "good_enough", lambda _: [baseline])
    drops = {one: 0.5} if was_tested else {}
    monkeypatch.setattr(decision, "drops_on_test", lambda *_: drops)
    with caplog.at_level("INFO"):
        (handed,) = ending.carry_out()
    assert ("so the baseline is the answer" in caplog.text) is not was_tested
    code = ending.belief.history.space.code
    assert handed[0] == code(one if was_tested else baseline)  # type: ignore[index]
