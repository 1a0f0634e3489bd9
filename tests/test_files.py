"""A file appears under its name when it is complete, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.files import written_whole


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
