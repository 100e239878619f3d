"""Detection of crawlers by their user agent.

Well-meaning crawlers name themselves there. Those that hide are not detected.
"""

import re
from functools import lru_cache

# Cubot is a make of phones. Libraries (requests, okhttp, curl) are not listed, since a shop's
# servers send with them.
_BOTS = re.compile(
    r"(?<!cu)bot(?![a-z])|crawl|spider|slurp|archiver|headless|phantomjs|lighthouse|inspectiontool"
    r"|googleother|mediapartners|feedfetcher|facebookexternalhit|facebookcatalog|meta-external"
    r"|bingpreview|link ?preview|page ?speed|pingdom|uptime|statuscake|site24x7|gtmetrix"
    r"|screaming frog|google-read-aloud|chatgpt-user|perplexity-user|prerender|monitis|nagios",
    re.IGNORECASE,
)
_LONGEST = 512


def is_bot(agent: str) -> bool:
    """Whether a `User-Agent` names a crawler, a previewer or a monitor. An empty one does not."""
    return _names_itself_bot(agent[:_LONGEST])


@lru_cache(4096)
def _names_itself_bot(agent: str) -> bool:
    return _BOTS.search(agent) is not None
