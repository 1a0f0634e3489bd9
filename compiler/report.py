"""Results as people and programs read them: a terminal table, report.json, resources.json and
report.html.

The report is plain data with the fields that docs/report.md lists; a number that was not
measured is None and shows as "not measured", with the reason where one is known.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.files import read_object, written_whole

if TYPE_CHECKING:
    from rich.console import Console

Report = Mapping[str, Any]

AUDIT_SCHEMA = 2
"""schema_version of the audit.json that this version writes and shows."""


def render_table(report: Report, console: Console) -> None:
    """Print the report as tables of at most 100 columns.

    `console` decides on colours: none where it is not a terminal or NO_COLOR is set.
    """
    from compiler.report_parts import table

    table.render(plain(report), console)


def write_report_files(report: Report, folder: Path) -> None:
    """Write report.json, resources.json and report.html.

    The map of every core goes into resources.json and is left out of report.json, and so are
    the audits, which have files of their own.
    """
    write_report_json(lean(report), folder / "report.json")
    whole = {"schema_version": report["schema_version"], "chips": report.get("resources") or ()}
    write_report_json(whole, folder / "resources.json")
    write_report_html(report, folder / "report.html")


WITHHELD_AUDITS = "audit-withheld-*.json"
"""Names of the results of audits without first layers."""


def audit_file(withheld: int = 0) -> str:
    """Name of the audit's result beside model.net; one for each number of withheld layers."""
    return WITHHELD_AUDITS.replace("*", str(withheld)) if withheld else "audit.json"


def read_leakage(folder: Path) -> dict[str, Any] | None:
    """The content of the folder's audit.json; None where there is none for its model.net.

    The pictures that it names, if any, come as PNG bytes under `sheets`, by attack.
    """
    return read_audit(folder / audit_file())


def read_withheld(folder: Path) -> list[dict[str, Any]]:
    """The same of every audit without the first layers."""
    found = (read_audit(path) for path in sorted(folder.glob(WITHHELD_AUDITS)))
    return [audit for audit in found if audit is not None]


def read_audit(path: Path) -> dict[str, Any] | None:
    """What an audit wrote; None for a file that is missing, damaged, of another version of this
    program or of another model.net."""
    from compiler.run_folder import file_hash

    try:
        audit = read_object(path)
        known = (audit["schema_version"], audit["model_sha256"])
        pictures = [path.parent / name for name in audit["pictures"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if known != (AUDIT_SCHEMA, file_hash(path.parent / "model.net")):
        return None
    sheets = {picture.stem: picture.read_bytes() for picture in pictures if picture.is_file()}
    return {**audit, "sheets": sheets}


def read_audits(folder: Path) -> dict[str, Any]:
    """What a report holds of the folder's audits: `leakage` and `leakage_withheld`, if any."""
    found = {"leakage": read_leakage(folder), "leakage_withheld": read_withheld(folder)}
    return {name: value for name, value in found.items() if value}


def add_leakage(folder: Path) -> None:
    """Write report.html of a finished compile again, now with the result of its audits."""
    write_report_html(read_report(folder), folder / "report.html")


def read_report(folder: Path) -> dict[str, Any]:
    """Everything that report.html shows: report.json with the map of every core and the audit.

    Raises OSError or ValueError where report.json or resources.json cannot be read.
    """
    report = read_object(folder / "report.json")
    chips = read_object(folder / "resources.json")["chips"]
    shown = read_shown_pictures(folder) if report.get("pictures") else None
    more = {**read_audits(folder), "shown_pictures": shown}
    found = {name: value for name, value in more.items() if value}
    return {**report, "resources": chips, **found}


def read_shown_pictures(folder: Path) -> dict[str, Any]:
    """What `--pictures` adds to report.html; see compiler.pictures.read_pictures."""
    from compiler.pictures import read_pictures
    from compiler.run_folder import RunFolder

    return read_pictures(RunFolder(folder))


def lean(report: Report) -> dict[str, Any]:
    """The content of report.json: without the map of every core, the audit and images."""
    chips = [
        {key: value for key, value in chip.items() if key != "core_map"}
        for chip in report.get("resources") or ()
    ]
    own = {key: value for key, value in report.items() if key not in _APART}
    return {**own, "resources": chips}


_APART = ("leakage", "leakage_withheld", "shown_pictures")
"""Fields of a report whose content lies in files of their own."""


def report_page(report: Report) -> str:
    """The text of report.html, one file without script that loads nothing."""
    from compiler.report_parts import page

    return page.render(plain(report))


def write_report_json(report: Report, path: Path) -> None:
    """Write report.json: UTF-8, indented; NaN and infinity become null. Replaces whole."""
    text = json.dumps(plain(report), indent=2, ensure_ascii=False, allow_nan=False)
    with written_whole(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def write_report_html(report: Report, path: Path) -> None:
    """Write report.html; see report_page. Replaces whole."""
    with written_whole(path) as beside:
        beside.write_text(report_page(report), encoding="utf-8")


def plain(value: Any) -> Any:
    """The same content as dicts, lists, strings and finite numbers.

    numpy numbers and arrays become Python's, paths strings, NaN and infinity None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
