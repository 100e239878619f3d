"""`make docs`: write everything that is generated from the code.

Kubeflow's pipeline is the exception: `make kubeflow` compiles it, in an environment of its own.
"""

from pathlib import Path

import click

from generate.manifests import manifests
from generate.pipelines import argo_pipeline
from generate.reference_pages import reference_pages

ROOT = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    """Texts of all generated files, by path in the repository."""
    return {**reference_pages(), **manifests(ROOT), **argo_pipeline()}


@click.command()
def main() -> None:
    """Write the generated files that are out of date."""
    stale = []
    for name, text in pages().items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            stale.append(name)
    click.echo(f"Wrote {', '.join(stale)}." if stale else "All pages are up to date.")


if __name__ == "__main__":
    main()
