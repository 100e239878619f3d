"""The bill of materials names what is installed, and what Debian brought."""

import runpy
from importlib import metadata
from typing import Any

from tests.deploy.declared import ROOT

SBOM: dict[str, Any] = runpy.run_path(str(ROOT / "deploy/image/sbom.py"))
STATUS = """\
Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.3.dfsg+really1.3.1-1+b1
Description: compression library
 zlib is a library: it compresses

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def test_bill_names_every_installed_package_once_with_its_version() -> None:
    bill = SBOM["bill"]("serving")
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "slipstream/serving"
    named = {
        each["name"]: each["version"] for each in bill["components"] if ":pypi/" in each["purl"]
    }
    assert named == {each.metadata["Name"]: each.version for each in metadata.distributions()}
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(references) == len(set(references))


def test_bill_names_debians_packages_that_are_installed() -> None:
    (zlib,) = SBOM["debian_packages"](STATUS)
    assert zlib["name"] == "zlib1g"
    assert zlib["purl"] == "pkg:deb/debian/zlib1g@1%3A1.3.dfsg%2Breally1.3.1-1%2Bb1?arch=amd64"
