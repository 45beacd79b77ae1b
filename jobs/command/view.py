"""`view`: the page of an OUT in a browser, from this machine or from a bucket."""

from __future__ import annotations

import webbrowser

import click


@click.command()
@click.argument("out")
@click.option("--address", default="127.0.0.1:0", show_default=True,
              help="HOST:PORT to serve on; port 0 chooses a free one")  # fmt: skip
@click.option("--open/--no-open", "opens", default=True, help="open the browser")
@click.option("--write", is_flag=True, help="write the page into OUT, for a web server or a bucket's website, and exit")
def view(out: str, address: str, opens: bool, write: bool) -> None:
    """Show maps in the browser. OUT is a folder or s3://bucket/prefix."""
    from earthloom.jobs.page.index import refresh_all
    from earthloom.jobs.page.libraries import add
    from earthloom.jobs.page.server import PageServer, host_and_port
    from earthloom.jobs.page.site import PAGE, write_page
    from earthloom.tiling.errors import ConfigError
    from earthloom.tiling.storage.objects import ObjectRef
    from earthloom.tiling.storage.store import open_store

    store = open_store(ObjectRef.parse(out))
    if store.head("catalog.json") is None:
        raise ConfigError(
            f"there is no catalog.json below {store.ref.url}; give the OUT of a run that has published something"
        )
    try:
        add()
    except ConfigError as error:
        click.echo(f"{error}; the page will ask the CDN for its libraries, which needs the internet", err=True)
    if write:
        refresh_all(store)
        write_page(store)
        click.echo(f"{store.ref.url}/{PAGE}")
        return
    with PageServer(store, *host_and_port(address)) as server:
        click.echo(f"{server.url} shows {store.ref.url}; Ctrl-C ends", err=True)
        if opens:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("", err=True)
