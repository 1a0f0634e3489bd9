"""A file appears under its name when it is complete; a manifest that is none counts for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.files import written_whole
from compiler.run_folder import MANIFEST_SCHEMA, make_run_folder


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "model.net"
    path.write_text("before")
    with written_whole(path) as temporary:
        temporary.write_text("after")
        assert temporary.parent == tmp_path and path.read_text() == "before"
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("written", [True, False])
def test_a_failure_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, written: bool
) -> None:
    path = tmp_path / "model.net"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
        if written:
            temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told_with_the_file_that_had_no_room(tmp_path: Path) -> None:
    path = tmp_path / "model.net"
    with pytest.raises(OSError, match="No space left") as caught, written_whole(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("half")
    assert caught.value.filename == str(path) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "stages",
    ["[]", "3", '{"load": 3}', '{"load": {}}', '{"load": {"key": "k", "seconds": 1, "files": 3, '
     '"results": {}}}', '{"load": {"key": "k", "seconds": 1, "files": {}, "results": [1]}}'],
)  # fmt: skip
def test_a_manifest_that_is_none_counts_for_nothing(tmp_path: Path, stages: str) -> None:
    folder = make_run_folder(tmp_path)
    folder.record("load", "k", 1.0, [], {"peak": 3})
    again = make_run_folder(tmp_path)
    again.take_up()
    assert again.finished("load", "k")
    folder.manifest.write_text(f'{{"schema_version": {MANIFEST_SCHEMA}, "stages": {stages}}}')
    again.take_up()
    assert not again.records
