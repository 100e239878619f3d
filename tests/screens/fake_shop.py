"""Items, visitors and lists of a made-up stack, for pictures of the console's screens."""

from typing import Any

from slipstream.contracts.reasons import HistoryItem, ItemReason, SlateReasons
from slipstream.contracts.rest import AnsweredItem, RecommendationResponse

_FILMS = """
Star Wars|1977|Action,Adventure,Sci-Fi
Contact|1997|Drama,Sci-Fi
Fargo|1996|Crime,Drama,Thriller
Return of the Jedi|1983|Action,Adventure,Sci-Fi
Liar Liar|1997|Comedy
The English Patient|1996|Drama,Romance,War
Scream|1996|Horror,Thriller
Toy Story|1995|Animation,Children's,Comedy
Air Force One|1997|Action,Thriller
Raiders of the Lost Ark|1981|Action,Adventure
The Godfather|1972|Action,Crime,Drama
Pulp Fiction|1994|Crime,Drama
Twelve Monkeys|1995|Drama,Sci-Fi
The Silence of the Lambs|1991|Drama,Thriller
Jerry Maguire|1996|Drama,Romance
Chasing Amy|1997|Drama,Romance
The Rock|1996|Action,Adventure,Thriller
Mars Attacks!|1996|Action,Comedy,Sci-Fi
Casablanca|1942|Drama,Romance,War
Vertigo|1958|Mystery,Thriller
Alien|1979|Action,Horror,Sci-Fi
Aladdin|1992|Animation,Children's,Comedy
The Lion King|1994|Animation,Children's,Musical
Fantasia|1940|Animation,Children's,Musical
Singin' in the Rain|1952|Musical,Romance
Duck Soup|1933|Comedy,War
Nosferatu|1922|Horror
Chinatown|1974|Film-Noir,Mystery,Thriller
The Wizard of Oz|1939|Adventure,Children's,Drama
Blade Runner|1982|Film-Noir,Sci-Fi
Hoop Dreams|1994|Documentary
Psycho|1960|Horror,Romance,Thriller
Lawrence of Arabia|1962|Adventure,War
"""
ITEMS: dict[str, dict[str, Any]] = {
    str(50 + 7 * n): {
        "title": title,
        "release_year": int(year),
        "categories": categories.split(","),
    }
    for n, (title, year, categories) in enumerate(
        line.split("|") for line in _FILMS.strip().splitlines()
    )
}
HOSTILE = '../<b onmouseover="alert(1)">\u202egnp.exe/' + "long" * 50
ITEMS[HOSTILE] = {"title": '<img src=x onerror="window.hacked=1">', "categories": ["<script>"]}
VISITORS = ["405", "655", "13", "9f0b7c1e-6a52-4d0c-8a3e-1c2d3e4f5a6b", HOSTILE, "450", "276"]

_SOURCES = ("transformer", "ease", "sessions", "content", "popularity")


def visitor_items(user_id: str) -> list[str]:
    """Ids of the items that a visitor has met, the newest first."""
    ids = list(ITEMS)
    start = sum(user_id.encode()) % len(ids)
    return [ids[(start + 5 * n) % len(ids)] for n in range(12)]


def slate(user_id: str, n: int, *, explained: bool, clicks: int = 0) -> dict[str, Any]:
    """A list for a visitor, in the form in which serving answers."""
    met = set(visitor_items(user_id)[:6])
    ids = [each for each in ITEMS if each not in met and each != HOSTILE]
    turn = (sum(user_id.encode()) + 3 * clicks) % len(ids)
    chosen = (ids[turn:] + ids[:turn])[:n]
    items = [
        AnsweredItem(
            item_id=item_id,
            position=place,
            score=round(0.4 / (place + 1), 4),
            source=_SOURCES[place % len(_SOURCES)],
            attributes=ITEMS[item_id],
            reason_text="Because you viewed “Star Wars”" if explained else None,
        )
        for place, item_id in enumerate(chosen)
    ]
    history = [
        HistoryItem(
            item_id=each,
            title=ITEMS[each]["title"],
            event_type="rate",
            timestamp=887_049_341_000,
            events=1,
        )
        for each in sorted(met)
    ]
    reasons = SlateReasons(
        ranked=200,
        history_items=len(history),
        cut_short=False,
        history=history,
        items=[
            ItemReason(
                item_id=item.item_id,
                words=f"{item.position + 1}. because this visitor rated “{history[0].title}” a day"
                " ago; without it, 41st",
                rank=item.position + 1,
                score=item.score,
                because=[history[0].item_id],
                rank_without=41,
                rank_without_history=104,
                ranks_without=[41, 2, 1, 1, 3, 1],
                source=item.source,
                retrievers={
                    "transformer": 2.63 - item.position / 5,
                    "ease": 0.3,
                    "content": 0.1,
                    "popularity": -0.21,
                },
                ranker=0.3,
                features={"rules rank": 0.5, "same categories": 0.418},
            )
            for item in items
        ],
    )
    return RecommendationResponse(
        recommendation_id=f"slate-{user_id[:8]}-{clicks}",
        user_id=user_id,
        items=items,
        answered_by="model",
        model_version="20261130-214100-a1b2c3",
        history_length=12 + clicks,
        reasons=reasons if explained else None,
    ).model_dump(mode="json")
