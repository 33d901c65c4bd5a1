"""A replay as one SVG that needs nothing else: two panels, a line and a band for each arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 460, 360  # of a panel, in pixels
LEFT, TOP, GAP, LEGEND = 62, 40, 90, 215
PANELS = {
    "hypervolume": "share of the pool's hypervolume",
    "regret": "log(params) above the pool's smallest",
}
# Okabe and Ito's palette, which colour-blind people can tell apart; ours are drawn thick, and those
# that share a colour differ in their dashes.
STYLES = {
    "ehvi": ("#D55E00", "", "ours: ehvi"),
    "smallest": ("#0072B2", "", "ours: smallest"),
    "thompson": ("#CC79A7", "", "ours: thompson"),
    "qlognehvi": ("#009E73", "", "ours: qlognehvi"),
    "botorch_qlognehvi": ("#000000", "", "BoTorch: qLogNEHVI"),
    "optuna_gp": ("#E69F00", "7 3", "Optuna: GP"),
    "optuna_tpe": ("#56B4E9", "7 3", "Optuna: TPE"),
    "optuna_nsga2": ("#009E73", "7 3", "Optuna: NSGA-II"),
    "random": ("#777777", "2 3", "random"),
}
THICK = ("ehvi", "smallest")


def draw(arms: dict[str, Any], batch: int) -> str:
    """Draw the means of all arms over the networks that were trained after the sentinels."""
    width = 2 * (LEFT + WIDTH) + GAP - LEFT + LEGEND
    names = [name for name in STYLES if name in arms]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT + TOP + 60}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, metric in enumerate(PANELS):
        left = LEFT + number * (WIDTH + GAP)
        parts += _panel(left, metric, {name: arms[name][metric] for name in names}, batch)
    parts += _legend(2 * WIDTH + GAP + LEFT + 18, names)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(left: float, metric: str, arms: dict[str, Any], batch: int) -> list[str]:
    highs = [m + e for arm in arms.values() for m, e in zip(arm["mean"], arm["se"], strict=True)]
    lows = [m - e for arm in arms.values() for m, e in zip(arm["mean"], arm["se"], strict=True)]
    low, high = (min(lows), 1.0) if metric == "hypervolume" else (0.0, max(highs))
    rounds = max(len(arm["mean"]) for arm in arms.values()) - 1

    def place(number: int, value: float) -> tuple[float, float]:
        share = (min(max(value, low), high) - low) / (high - low or 1)
        return left + WIDTH * number / rounds, TOP + HEIGHT * (1 - share)

    parts = _axes(left, PANELS[metric], low, high, rounds, batch)
    for name, arm in reversed(arms.items()):  # ours on top
        colour = STYLES[name][0]
        pairs = list(zip(arm["mean"], arm["se"], strict=True))
        band = [place(n, m + e) for n, (m, e) in enumerate(pairs)]
        band += [place(n, m - e) for n, (m, e) in reversed(list(enumerate(pairs)))]
        parts.append(f'<polygon points="{_points(band)}" fill="{colour}" fill-opacity="0.12"/>')
        line = [place(n, m) for n, (m, _) in enumerate(pairs)]
        parts.append(f'<polyline points="{_points(line)}" {_stroke(name)}/>')
    return parts


def _axes(left: float, title: str, low: float, high: float, rounds: int, batch: int) -> list[str]:
    bottom, parts = TOP + HEIGHT, []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, value = bottom - share * HEIGHT, low + share * (high - low)
        parts.append(f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="#dddddd"/>')
        parts.append(_text(left - 8, y + 4, f"{value:.2f}", "end"))
    for number in range(0, rounds + 1, max(1, rounds // 8)):
        x = left + WIDTH * number / rounds
        parts.append(_text(x, bottom + 18, str(number * batch), "middle"))
    parts.append(_text(left + WIDTH / 2, bottom + 40, "networks after the sentinels", "middle"))
    parts.append(_text(left, TOP - 16, title, "start"))
    return parts


def _legend(left: float, names: Sequence[str]) -> list[str]:
    parts = []
    for row, name in enumerate(names):
        y = TOP + 14 + 24 * row
        parts.append(f'<path d="M{left} {y}h34" {_stroke(name)}/>')
        parts.append(_text(left + 42, y + 4, STYLES[name][2], "start"))
    y = TOP + 14 + 24 * len(names)
    return [*parts, _text(left, y + 4, "bands: standard error", "start")]


def _stroke(name: str) -> str:
    colour, dashes, _ = STYLES[name]
    width = 3.2 if name in THICK else 1.6
    return f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"'


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
