# %% [markdown]
# A look into the lake: events and visitors by day, the way to a purchase, and what lists earned.
#
# Needs `pip install deltalake duckdb pyarrow`. Run the cells in Jupyter or VS Code, or all of them:
# `python lake_notebook.py [FOLDER]`. FOLDER has the tables, by default those of `slipstream up`.

# %%
import sys
from pathlib import Path

import duckdb
from deltalake import DeltaTable

given = [Path(word) for word in sys.argv[1:] if Path(word).is_dir()]
lake = given[0] if given else Path(".slipstream/lake/slipstream")


def read(table):
    """The table at its newest version, of which a query reads what it needs."""
    if not DeltaTable.is_deltatable(str(lake / table)):
        sys.exit(f"{lake} has no table {table!r} yet: it is made with its first row")
    return DeltaTable(lake / table).to_pyarrow_dataset()


interactions, catalog = read("interactions"), read("catalog")
recommendations = read("recommendations")

# %% [markdown]
# Times in UTC, in one place:

# %%
duckdb.sql("""
    CREATE OR REPLACE TEMP VIEW events AS
    SELECT *, timestamp_utc AT TIME ZONE 'UTC' AS time
    FROM interactions
""")
print(duckdb.sql("SELECT min(time), max(time), count(*), count(DISTINCT user_id) FROM events"))

# %%
print(
    duckdb.sql("""
    SELECT time::DATE AS day, count(*) AS events, count(DISTINCT user_id) AS visitors,
           count(*) FILTER (event_type = 'purchase') AS purchases
    FROM events GROUP BY day ORDER BY day DESC LIMIT 30
""")
)

# %% [markdown]
# The way to a purchase: of the visitors who did one thing, how many did the next.

# %%
print(
    duckdb.sql("""
    WITH visitors AS (
        SELECT user_id, bool_or(event_type IN ('view', 'click')) AS looked,
               bool_or(event_type = 'cart') AS put_into_cart,
               bool_or(event_type = 'purchase') AS bought
        FROM events GROUP BY user_id
    )
    SELECT count(*) FILTER (looked) AS looked,
           count(*) FILTER (looked AND put_into_cart) AS then_cart,
           count(*) FILTER (looked AND bought) AS then_bought
    FROM visitors
""")
)

# %% [markdown]
# What lists earned: shown slates by day, and those that an interaction names.

# %%
print(
    duckdb.sql("""
    WITH answered AS (
        SELECT recommendation_id, bool_or(event_type = 'purchase') AS bought
        FROM events WHERE recommendation_id IS NOT NULL GROUP BY recommendation_id
    )
    SELECT epoch_ms(timestamp)::DATE AS day, model_version, count(*) AS slates,
           count(answered.recommendation_id) AS with_interaction,
           count(*) FILTER (bought) AS with_purchase
    FROM recommendations LEFT JOIN answered USING (recommendation_id)
    WHERE purpose = 'shown' GROUP BY day, model_version ORDER BY day DESC, model_version
""")
)

# %% [markdown]
# Items that are looked at and not bought, with their titles.

# %%
print(
    duckdb.sql("""
    WITH items AS (
        SELECT entity_id AS item_id, attributes ->> '$.title' AS title
        FROM catalog WHERE entity = 'item'
        QUALIFY row_number() OVER (
            PARTITION BY entity_id ORDER BY "timestamp" DESC, "offset" DESC
        ) = 1
    )
    SELECT item_id, title, count(*) FILTER (event_type IN ('view', 'click')) AS looks,
           count(*) FILTER (event_type = 'purchase') AS purchases
    FROM events LEFT JOIN items USING (item_id) WHERE item_id IS NOT NULL
    GROUP BY item_id, title ORDER BY purchases, looks DESC, item_id LIMIT 20
""")
)
