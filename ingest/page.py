"""The report as files: JSON for programs, and one page with pictures that needs nothing but itself."""

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graph.stats import GraphStats, StoreStats
from ingest.errors import IngestError
from ingest.report import IngestReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Of Okabe and Ito, told apart by those who see colours otherwise too; black for what is left."""
_FEW_DAYS: Final = 92
_FEW_YEARS: Final = 12
_CELLS: Final = 12
"""Platforms up to which the numbers of shared people are written into the picture."""


def write_report(report: IngestReport, stats: StoreStats, directory: Path) -> Path:
    """Write <instant>.json and <instant>.html, and return the page's path.

    Raises: IngestError if they cannot be written.
    """
    now = datetime.now(UTC)
    page = directory / f"{now:%Y%m%dT%H%M%S%f}.html"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = {"at": now.isoformat(timespec="seconds"), "run": report.json(), "graph": figures(stats)}
        page.with_suffix(".json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        page.write_text(render(report, stats, now), encoding="utf-8")
    except OSError as error:
        raise IngestError(
            f"the report cannot be written to {directory}: {error.strerror}; the graph has it all"
        ) from None
    return page


def figures(stats: StoreStats) -> dict[str, Any]:
    """The figures of the graph for programs."""
    unit, over_time = periods(stats.by_day)
    graph = asdict(stats.graph)
    for platform, of in zip(graph["platforms"], stats.graph.platforms, strict=True):
        platform["cold_share"] = round(of.cold_share, 4)
    return graph | {
        "event_types": dict(stats.graph.event_types),
        "events_over_time": {
            "unit": unit,
            **{name: {day.isoformat(): count for day, count in days.items()} for name, days in over_time.items()},
        },
        "events_without_time": dict(stats.undated),
        "people_by_events": dict(stats.people_of),
    }


def periods(by_day: Sequence[tuple[str, date, int]]) -> tuple[str, Mapping[str, Mapping[date, int]]]:
    """Events by platform and day, month or year, whichever makes a picture; a period goes by its first day."""
    days = [day for _, day, _ in by_day]
    span = (max(days) - min(days)).days if days else 0
    unit = "day" if span < _FEW_DAYS else "month" if span < _FEW_YEARS * 366 else "year"
    begin: dict[str, Callable[[date], date]] = {
        "day": lambda day: day,
        "month": lambda day: day.replace(day=1),
        "year": lambda day: day.replace(month=1, day=1),
    }
    found: dict[str, Counter[date]] = {}
    for platform, day, count in by_day:
        found.setdefault(platform, Counter())[begin[unit](day)] += count
    return unit, found


def render(report: IngestReport, stats: StoreStats, at: datetime) -> str:
    """The page: one HTML text with its pictures in it."""
    total, graph = report.total, stats.graph
    undated = "".join(f"<p>{count:,} events of {escape(name)} have no time.</p>" for name, count in stats.undated)
    unit, over_time = periods(stats.by_day)
    cells: list[tuple[str, Sequence[str], list[tuple[object, ...]]]] = [
        (
            "Files",
            ("file", "section", "read", "accepted", "duplicates", "rejected"),
            [(f.file, f.section, f.read, f.accepted, f.duplicates, f.rejected) for f in (*report.files, total)],
        ),
        (
            "Broken rules",
            ("rows", "rule", "field", "what is wrong", "file", "first line", "what to do"),
            [
                (each.rows, str(each.rule), each.field, each.detail, each.file, each.first, each.rule.advice)
                for each in report.broken
            ],
        ),
        (
            "Missing, and not made up",
            ("file", "field", "rows without it", "of rows"),
            [(f.file, name, count, f.read - f.rejected) for f in report.files for name, count in f.missing.items()],
        ),
        (
            "Platforms",
            (
                "platform",
                "items",
                "without an event",
                "people",
                "events",
                "events of a person",
                "events of a warm item",
            ),
            [
                (p.platform, p.items, f"{p.cold_share:.1%}", p.people, p.events, str(p.per_person), str(p.per_item))
                for p in graph.platforms
            ],
        ),
    ]
    pictures = [
        (f"Events over time, by {unit}", _picture(lambda axes: _over_time(axes, unit, over_time)), undated),
        ("Events per person", _picture(lambda axes: _per_person(axes, stats.people_of)), ""),
        ("Items without any event", _picture(lambda axes: _cold(axes, graph)), ""),
        ("People on two platforms", _picture(lambda axes: _overlap(axes, graph)), ""),
    ]
    tables = "".join(_section(name, _table(head, rows)) for name, head, rows in cells if rows)
    shown = "".join(
        _section(name, f'<img alt="{escape(name)}" src="data:image/svg+xml;base64,{picture}">{below}')
        for name, picture, below in pictures
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ingest of {at:%Y-%m-%d %H:%M} UTC</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>Ingest of {at:%Y-%m-%d %H:%M} UTC</h1>
<p>{total.read:,} rows read = {total.accepted:,} accepted + {total.duplicates:,} duplicates
+ {total.rejected:,} rejected, in {report.seconds:,.1f} s.
The graph now has {graph.people:,} people, {graph.items:,} items and {graph.events:,} events.</p>
{tables}{shown}</body></html>
"""


_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
section{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.25rem .75rem;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}
"""


def _section(name: str, inside: str) -> str:
    return f"<section><h2>{escape(name)}</h2>{inside}</section>\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cell(value: object) -> str:
        return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(str(value))}</td>"

    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>{lines}</table>"


def _picture(draw: "Callable[[Axes], None]") -> str:
    """What is drawn, as SVG whose texts stay texts, in base64."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "isthmus", "font.size": 9}):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return base64.b64encode(out.getvalue()).decode()


def _over_time(axes: "Axes", unit: str, over_time: Mapping[str, Mapping[date, int]]) -> None:
    if not over_time:
        return _nothing(axes)
    biggest = sorted(over_time, key=lambda name: -sum(over_time[name].values()))
    own = biggest[: len(COLOURS)]
    below: Counter[date] = Counter()
    width = timedelta(days={"day": 1, "month": 28, "year": 360}[unit])
    for name in biggest:
        days = sorted(over_time[name])
        label = name if name in own else "others" if name == biggest[len(own)] else None
        colour = COLOURS[own.index(name)] if name in own else "#000000"
        counts = [over_time[name][day] for day in days]
        bottom = [below[day] for day in days]
        axes.bar(days, counts, width, bottom=bottom, align="edge", label=label, color=colour)  # type: ignore[arg-type]
        below.update(over_time[name])
    axes.set_ylabel(f"events a {unit}")
    axes.legend(frameon=False)
    return None


def _per_person(axes: "Axes", people_of: Sequence[tuple[int, int]]) -> None:
    if not people_of:
        return _nothing(axes)
    bins: Counter[int] = Counter()
    for events, people in people_of:
        bins[events.bit_length() - 1] += people
    ranges = range(max(bins) + 1)
    names = [str(2**n) if n == 0 else f"{2**n}-{2 ** (n + 1) - 1}" for n in ranges]
    bars = axes.bar(names, [bins[n] for n in ranges], color=COLOURS[0])
    axes.bar_label(bars, fmt="{:,.0f}")
    axes.set_xlabel("events")
    axes.set_ylabel("people")
    return None


def _cold(axes: "Axes", graph: GraphStats) -> None:
    shown = sorted(graph.platforms, key=lambda platform: -platform.items)[:_CELLS]
    if not shown:
        return _nothing(axes)
    names = [platform.platform for platform in shown]
    warm = [1 - platform.cold_share for platform in shown]
    axes.barh(names, warm, color=COLOURS[0], label="with an event")
    bars = axes.barh(names, [p.cold_share for p in shown], left=warm, color=COLOURS[1], label="without")
    axes.bar_label(bars, [f"{p.cold_share:.1%} of {p.items:,}" for p in shown], padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("share of the items")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    return None


def _overlap(axes: "Axes", graph: GraphStats) -> None:
    names = [platform.platform for platform in sorted(graph.platforms, key=lambda p: -p.people)][:_CELLS]
    if not names:
        return _nothing(axes)
    people = {platform.platform: platform.people for platform in graph.platforms}
    share = {(name, name): 1.0 for name in names}
    both = {(name, name): people[name] for name in names}
    for pair in graph.overlaps:
        for key in ((pair.first, pair.second), (pair.second, pair.first)):
            share[key], both[key] = pair.share, pair.people
    axes.imshow(
        [[share[row, column] for column in names] for row in names], cmap="Blues", vmin=0, vmax=1, aspect="auto"
    )
    for y, row in enumerate(names):
        for x, column in enumerate(names):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(x, y, f"{both[row, column]:,}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 5 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("people; the darker, the larger their share of the smaller platform's")
    return None


def _nothing(axes: "Axes") -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "nothing to show yet", ha="center", va="center")
