"""The leakage audit's section of the page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from compiler.quantities import missing, percent
from compiler.report_parts import charts
from compiler.report_parts.leakage import (
    NETWORKS,
    Audit,
    heading,
    notes,
    quote,
    span,
    tables,
    target,
    title,
    verdicts,
    withheld_layers,
)


def sections(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the page needs of every audit: of the whole file first, then without first layers."""
    main = report.get("leakage")
    return [section(one) for one in ([main] if main else []) + report.get("leakage_withheld", [])]


def section(audit: Audit) -> dict[str, Any]:
    """What the page needs of one audit."""
    withheld = withheld_layers(audit)
    return {
        "id": f"leakage-withheld-{withheld}" if withheld else "leakage",
        "title": f"Leakage audit: {target(audit)}" if withheld else "Leakage audit",
        "heading": heading(audit),
        "quote": quote(audit),
        "verdicts": verdicts(audit),
        "drawn": _drawn(audit),
        "legend": [{"name": title(audit, name), "series": i} for i, name in enumerate(NETWORKS)],
        "tables": [
            {"title": title, "columns": columns, "rows": rows, "left": left}
            for title, columns, rows, left in tables(audit)
        ],
        "classes": _by_class(audit),
        "notes": notes(audit),
        "sheets": _sheets(audit),
    }


def _drawn(audit: Audit) -> Any:
    rows = [("noise", {"noise": _recognition(audit, "noise", "images")})]
    rows += [
        (attack, {name: _recognition(audit, name, attack) for name in NETWORKS})
        for attack in audit["attacks"]
    ]
    rows.append(("real images", {"real images": _recognition(audit, "real", "images")}))
    return charts.rate_dots(rows, NETWORKS)


def _recognition(audit: Audit, subject: str, attack: str) -> Mapping[str, float]:
    found: Mapping[str, float] = audit["subjects"][subject]["attacks"][attack]["recognition"]
    return found


def _by_class(audit: Audit) -> dict[str, Any]:
    """Recognition of each class under the worst attack, beside that of real images."""
    worst = audit["subjects"]["encrypted"]["attacks"][audit["worst_attack"]]["classes"]
    floor = audit["subjects"]["random"]["attacks"][audit["worst_attack"]]["classes"]
    real = audit["subjects"]["real"]["attacks"]["images"]["classes"]
    columns = ("class", "encrypted", "random weights", "real images")
    rows = [
        (
            name,
            f"{percent(found['value'])} ({span(found)})",
            percent(floor[name]["value"]) if name in floor else missing(),
            percent(real[name]["value"]) if name in real else missing(),
        )
        for name, found in worst.items()
    ]
    return {"columns": columns, "rows": rows}


def _sheets(audit: Audit) -> list[dict[str, str]]:
    return [
        {"attack": attack, "url": data_url(png)}
        for attack, png in (audit.get("sheets") or {}).items()
    ]


def data_url(png: bytes) -> str:
    """A picture as the page holds it in itself."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")
