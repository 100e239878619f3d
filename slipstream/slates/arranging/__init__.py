"""The arrangement of a slate: from candidates and a placement's policy to the list that is shown.

`arrangement` says in which order the parts apply (docs/adr/0043). No HTTP and no stores in here.
"""
