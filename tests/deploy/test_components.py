"""Kustomize components are described, list their files, and belong to tested installations."""

import pytest

from tests.deploy.manifests import KUBERNETES, documents, kustomization
from tests.manifests.installations import COMPONENTS, INSTALLATIONS

README = (KUBERNETES / "README.md").read_text()
NAMES = sorted(path.name for path in COMPONENTS.iterdir())
# In the order in which a kustomization lists them.
ORDER = sorted(NAMES, key=lambda name: README.index(f"[{name}]("))


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_an_installation_lists_components_in_their_order(name: str) -> None:
    listed = INSTALLATIONS[name]
    assert list(listed) == [component for component in ORDER if component in listed]


def test_every_component_is_part_of_an_installation() -> None:
    assert {name for listed in INSTALLATIONS.values() for name in listed} == set(NAMES)


@pytest.mark.parametrize("component", sorted(path.name for path in COMPONENTS.iterdir()))
def test_a_component_is_described_and_lists_its_files(component: str) -> None:
    folder = COMPONENTS / component
    assert f"[{component}](components/{component}/README.md)" in README
    assert (folder / "README.md").read_text().startswith(f"# {component}\n")
    listed = kustomization(folder)
    named = {
        *listed.get("resources", ()),
        *listed.get("configurations", ()),
        *listed.get("components", ()),
        *(patch["path"] for patch in listed.get("patches", ()) if "path" in patch),
        *(file for g in listed.get("configMapGenerator", ()) for file in g.get("files", ())),
    }
    assert named == {p.name for p in folder.iterdir()} - {"kustomization.yaml", "README.md"}
    assert all(documents(folder / name) for name in named if name.endswith(".yaml"))
