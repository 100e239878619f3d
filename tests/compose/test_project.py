"""The demo names all that it lacks before it builds."""

from pathlib import Path

import pytest

from tests.compose.project import ComposeError, Project


@pytest.mark.parametrize(
    ("docker", "lacking"),
    [
        (None, ["a Docker engine that", "Docker Compose 2.24 or newer"]),
        ("exit 1", ["a Docker engine that", "Docker Compose 2.24 or newer"]),
        ('[ "$1" != compose ] || echo 2.23.3', ["Docker Compose 2.24 or newer"]),
        ('[ "$1" != compose ] || echo v2.24.0', []),
        ('[ "$1" != compose ] || echo 5.1.0-desktop.1', []),
    ],
)
def test_everything_that_is_lacking_is_named_at_once(
    docker: str | None, lacking: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if docker is not None:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{docker}\n")
        (tmp_path / "docker").chmod(0o755)
    if not lacking:
        Project()
        return
    with pytest.raises(ComposeError) as raised:
        Project()
    text = str(raised.value).removeprefix("this is lacking: ")
    assert len(text.split("; ")) == len(lacking)
    assert all(
        part.startswith(start) for part, start in zip(text.split("; "), lacking, strict=True)
    )
