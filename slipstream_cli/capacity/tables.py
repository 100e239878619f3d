"""Sizes as tables: for a terminal, and for docs/capacity.md."""

from slipstream_cli.capacity.sizes import Prices, Shop, Size, lake_gb, monthly_cost, sizes

_HEADS = ("part", "load at the peak", "processes", "cores", "GB", "disk GB", "of its limit")


def table(shop: Shop, prices: Prices) -> str:
    """The sizes of a shop's parts, a line each, and the cost."""
    lines = [list(_HEADS), *map(_cells, sizes(shop))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    texts = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([f"{shop.daily_visitors:,} visitors a day", *texts, _sum(shop, prices), ""])


def page_rows(shop: Shop, prices: Prices) -> str:
    """The same as rows of Markdown."""
    rows = [list(_HEADS), ["---"] * len(_HEADS), *map(_cells, sizes(shop))]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"### {shop.daily_visitors:,} visitors a day\n\n{body}\n\n{_sum(shop, prices)}\n"


def _sum(shop: Shop, prices: Prices) -> str:
    return f"Lake: {lake_gb(shop):,.0f} GB. Together: ${monthly_cost(shop, prices):,.0f} a month."


def _cells(size: Size) -> list[str]:
    return [
        size.part if size.hours == 24 else f"{size.part}, {size.hours * 60:,.0f} min a day",
        size.load,
        str(size.processes),
        f"{size.cores:,.1f}",
        f"{size.memory_gb:,.1f}",
        f"{size.disk_gb:,.0f}" if size.disk_gb else "",
        "" if size.used is None else f"{size.used:.0%}",
    ]
