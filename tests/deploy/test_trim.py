"""What is left out of images goes, what packages import stays, and RECORDs tell the truth."""

import base64
import csv
import hashlib
import runpy
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from tests.deploy.declared import ROOT

TRIM: Callable[[Path, str | None], int] = runpy.run_path(str(ROOT / "deploy/image/trim.py"))["trim"]
GONE = (
    "shop/tests/test_shop.py",
    "shop/deep/tests/data/big.bin",
    "shop/libshop.a",
    "shop/__init__.pyi",
    "pyarrow/include/arrow/api.h",
    "pyarrow/_flight.so",
)
STAYS = (
    "shop/__init__.py",
    "shop/testing/compare.py",
    "shop/tests.py",
    "numpy/_core/tests/_natype.py",
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    record = tmp_path / "shop-1.dist-info" / "RECORD"
    for name in (*GONE, *STAYS, "numpy/_core/tests/test_array.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name * 10)
    record.parent.mkdir()
    (record.parent / "METADATA").write_text("Name: shop\nVersion: 1\n")
    rows = [
        (name, "sha256=stale" if name == "shop/__init__.py" else "sha256=as-it-was", size)
        for name in (*GONE, *STAYS)
        for size in ["1" if name == "shop/__init__.py" else str(len(name) * 10)]
    ]
    with record.open("w", newline="") as file:
        csv.writer(file).writerows([*rows, ("shop-1.dist-info/RECORD", "", "")])
    return tmp_path


def test_unused_files_are_gone_and_those_that_packages_import_stay(site: Path) -> None:
    assert TRIM(site, None) > 10 * sum(map(len, GONE))
    assert [name for name in GONE if (site / name).exists()] == []
    assert [name for name in STAYS if not (site / name).exists()] == []
    assert not (site / "numpy/_core/tests/test_array.py").exists()


def test_a_record_names_the_files_that_are_there_with_their_digests(site: Path) -> None:
    TRIM(site, None)
    rows = list(csv.reader((site / "shop-1.dist-info" / "RECORD").open(newline="")))
    assert [row[0] for row in rows] == [*STAYS, "shop-1.dist-info/RECORD"]
    text = (site / "shop/__init__.py").read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
    assert rows[0][1:] == [f"sha256={digest}", str(len(text))]
    assert rows[1][1] == "sha256=as-it-was"


def test_a_trimmed_package_is_still_known_to_the_standard_library(site: Path) -> None:
    TRIM(site, None)
    (shop,) = metadata.distributions(path=[str(site)])
    assert (shop.name, shop.version) == ("shop", "1")
    assert {str(file) for file in shop.files or ()} >= {"shop/__init__.py"}
