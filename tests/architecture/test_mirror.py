"""Unit tests stand where what they test stands: folder and name mirror the source."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests" / "unit"
# Source folders of tests that do not stand under the name of a folder of the library.
FOLDERS = {
    "bench": "bench",
    "cli": "slipstream_cli",
    "generate": "generate",
    "features_service": "services/features",
    **{name: f"services/{name}" for name in ("ingestion", "monitoring", "serving", "training")},
}
# Tests of more than one module.
OF_SEVERAL_MODULES = {
    "models/test_conformance.py",
    "serving/test_short_line.py",
}
# Tests that are still named after their subject. No file is added here.
NAMED_OTHERWISE = {
    "cli/doctor/test_documentation.py",
    "cli/test_command_line.py",
    "cli/test_documented_commands.py",
    "cli/test_wrong_settings.py",
    "features/test_affinity.py",
    "features/test_point_in_time.py",
}


def _mirrors(test: Path) -> bool:
    """Whether the test is named after a module, alone or with an aspect: `test_runs_interrupted.py`
    tests `runs.py`.
    """
    *folders, name = test.relative_to(UNIT).parts
    if not folders:
        source = ROOT / "services"
    elif folders[0] in FOLDERS:
        source = ROOT.joinpath(FOLDERS[folders[0]], *folders[1:])
    else:
        source = ROOT.joinpath("slipstream", *folders)
    subject = name.removeprefix("test_").removesuffix(".py") + "_"
    modules = (path.stem.strip("_") for path in source.glob("*.py"))
    return any(subject.startswith(f"{module}_") for module in modules)


def test_every_unit_test_is_named_after_the_module_that_it_tests() -> None:
    named_otherwise = {
        test.relative_to(UNIT).as_posix() for test in UNIT.rglob("test_*.py") if not _mirrors(test)
    }
    assert named_otherwise == OF_SEVERAL_MODULES | NAMED_OTHERWISE
