"""Is it a crawler? Told by the user agent, as those name themselves that mean well; who hides is
not found this way.
"""

import re
from functools import lru_cache

# Phones of the make Cubot are no bots. Libraries (requests, okhttp, curl) are not listed: a shop's
# own servers send with them.
_BOTS = re.compile(
    r"(?<!cu)bot(?![a-z])|crawl|spider|slurp|archiver|headless|phantomjs|lighthouse|inspectiontool|googleother|mediapartners"
    r"|feedfetcher|facebookexternalhit|facebookcatalog|meta-external|bingpreview|link ?preview|page ?speed|pingdom|uptime"
    r"|statuscake|site24x7|gtmetrix|screaming frog|google-read-aloud|chatgpt-user|perplexity-user|prerender|monitis|nagios",
    re.IGNORECASE,
)
_LONGEST = 512


def is_bot(agent: str) -> bool:
    """Whether a `User-Agent` is that of a crawler, a previewer or a monitor. An empty one is not."""
    return _names_itself_bot(agent[:_LONGEST])


@lru_cache(4096)
def _names_itself_bot(agent: str) -> bool:
    return _BOTS.search(agent) is not None
