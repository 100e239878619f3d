"""`slipstream docs`: generate the reference pages from the code."""

from pathlib import Path

import click


@click.command(short_help="Generate the reference pages from the code.")
@click.option(
    "--check",
    is_flag=True,
    help="Change nothing; exit with status 1 if a page is out of date.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    show_default="the current one",
    help="Folder of the repository.",
)
@click.option(
    "--openapi",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the services' OpenAPI documents into this folder instead, for generators of"
    " clients. Default: the pages.",
)
def docs(check: bool, directory: Path, openapi: Path | None) -> None:
    """Generate .env.example, docs/{configuration,features,security,topics}.md and manifests.

    The manifests are those of NetworkPolicies, Kafka's topics and users, Prometheus' rules, and
    pipelines for Argo and Kubeflow.

    \b
    Example:  slipstream docs --check
    """
    from slipstream_cli.commands.reference_pages import openapi_documents, pages

    if openapi is not None:
        if check:
            raise click.UsageError("--openapi compares nothing; leave --check out")
        openapi.mkdir(parents=True, exist_ok=True)
        for service, text in openapi_documents().items():
            (openapi / f"{service}.json").write_text(text, encoding="utf-8")
        return
    stale = []
    try:
        generated = pages(directory)
    except FileNotFoundError as error:
        raise click.ClickException(f"{directory} is not a checkout: {error}") from error
    for name, text in generated.items():
        path = directory / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if check and stale:
        raise click.ClickException(f"out of date: {', '.join(stale)}; run: slipstream docs")
    click.echo(f"Wrote {', '.join(stale)}." if stale else "All pages are up to date.")
