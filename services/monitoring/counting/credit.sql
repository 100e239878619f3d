-- The credit of responses to places of slates, and sums, in DuckDB's SQL. Given are the tables and variables of credit.py.
-- Times are ms since the epoch.

CREATE MACRO bucket_of(at_ms) AS at_ms - at_ms % getvariable('bucket_ms');
CREATE MACRO within(at_ms) AS at_ms >= getvariable('since') AND at_ms < getvariable('until');

-- Events with an item, each once.
CREATE TABLE happened AS
SELECT event_id, kind, user_id, anonymous_id, item_id, "timestamp" AS at_ms, nullif(recommendation_id, '') AS named,
    CASE WHEN kind IN ('purchase', 'refund') AND abs(value) <= getvariable('most_value')
        THEN round(1000 * abs(value))::BIGINT END AS value,
    CASE WHEN kind IN ('purchase', 'refund')
        THEN regexp_extract(upper(trim(coalesce(properties ->> '$.currency', ''))), '^[A-Z]{3}$') ELSE '' END AS currency
FROM (
    SELECT *, CASE
        WHEN event_type = 'purchase' THEN CASE WHEN value < 0 THEN 'refund' ELSE 'purchase' END
        WHEN event_type IN ('cart', 'impression') THEN event_type
        WHEN event_type = 'remove' THEN CASE WHEN properties ->> '$.refunded' = 'true' THEN 'refund' END
        WHEN event_type <> 'search' THEN 'click'
    END AS kind
    FROM events WHERE item_id IS NOT NULL AND within("timestamp")
    QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY "timestamp", topic_id, "partition", "offset") = 1
) WHERE kind IS NOT NULL;
DROP TABLE pairs;
DROP TABLE events;

-- The events by each person who may have caused them.
CREATE TABLE keys AS
SELECT DISTINCT event_id, kind, item_id, at_ms, named, coalesce(person, visitor) AS person
FROM (SELECT *, unnest(ids_of(user_id, anonymous_id)) AS visitor FROM happened)
LEFT JOIN identities USING (visitor) WHERE visitor IS NOT NULL;

CREATE TABLE shown AS
SELECT recommendation_id, user_id, coalesce(person, user_id) AS person, "timestamp" AS at_ms, items,
    coalesce(placement, '') AS placement, coalesce(model_version, '') AS model_version,
    coalesce(answered_by, '') AS answered_by, coalesce(s.experiment, '') AS experiment,
    CASE WHEN coalesce(s.experiment, '') = '' THEN '' ELSE coalesce(variant, '') END AS variant,
    -- While a change of the design settles, a slate counts for neither.
    CASE WHEN designs.since > 0 AND s."timestamp" < designs.since + getvariable('settling_ms')
        THEN 0 ELSE coalesce(revision, 0) END AS revision,
    coalesce(substituted, '') <> '' AS failed,
    least(greatest(coalesce(round(10 * latency_ms), 0), 0), 10000000)::BIGINT AS latency, topic_id, "partition", "offset",
    CASE WHEN coalesce((features ->> '$.history_length')::DOUBLE, 0) > 0 THEN 'returning' ELSE 'new' END AS cohort
FROM (
    SELECT * FROM slates WHERE purpose = 'shown'
    QUALIFY row_number() OVER (PARTITION BY recommendation_id ORDER BY "timestamp", topic_id, "partition", "offset") = 1
) s
LEFT JOIN identities ON visitor = user_id
ASOF LEFT JOIN designs ON s.experiment = designs.experiment AND s."timestamp" >= designs.since;

-- Visitors who did something in many seconds of a bucket.
CREATE TABLE scripted AS
SELECT visitor, bucket FROM (
    SELECT user_id AS visitor, bucket_of(at_ms) AS bucket, at_ms // 1000 AS second FROM happened
    UNION SELECT user_id, bucket_of(at_ms), at_ms // 1000 FROM shown WHERE within(at_ms)
) GROUP BY ALL HAVING count(*) >= getvariable('scripted_s');

-- The places of slates, each with what it is grouped by. Items of other steps are of no model.
CREATE VIEW all_places AS
SELECT recommendation_id, user_id, person, at_ms, item.item_id AS item_id, placement,
    CASE WHEN item.source IN ('similar', 'trending', 'popular', 'new', 'recent', 'bought_together')
        THEN '' ELSE model_version END AS model_version,
    experiment, variant, revision, place - 1 AS position, coalesce(item.source, '') AS source, cohort,
    at_ms AS listed_at, s.model_version AS list_model, answered_by
FROM (SELECT *, unnest(items) AS item, generate_subscripts(items, 1) AS place FROM shown) s;

-- Those that an event may be credited to.
CREATE TABLE places AS
SELECT * FROM all_places
WHERE recommendation_id IN (SELECT named FROM keys) OR person IN (SELECT person FROM keys WHERE named IS NULL);

-- Responses of some kinds with the places that they are credited to. A slate that is named comes before an earlier credit of
-- one of the kinds `touches`, and that before another slate; of several, the newest one.
CREATE MACRO credited(kinds, touches) AS TABLE
WITH wanted AS (SELECT * FROM keys WHERE list_contains(kinds, kind)),
touch AS (
    SELECT c.*, coalesce(person, user_id) AS person
    FROM (SELECT * FROM past UNION ALL SELECT * FROM credits) c LEFT JOIN identities ON visitor = user_id
    WHERE list_contains(touches, kind) AND recommendation_id <> ''
    QUALIFY row_number() OVER (PARTITION BY person, item_id, at_ms ORDER BY event_id DESC) = 1
),
newest AS (
    SELECT * FROM places
    QUALIFY row_number() OVER (PARTITION BY person, item_id, at_ms ORDER BY recommendation_id DESC, position) = 1
),
found AS (
    SELECT w.event_id, 3 AS rank, p.at_ms AS since, COLUMNS(p.* EXCLUDE (person, at_ms, item_id))
    FROM wanted w JOIN places p ON p.recommendation_id = w.named AND p.item_id = w.item_id AND p.person = w.person
    WHERE w.at_ms BETWEEN p.at_ms AND p.at_ms + getvariable('named_ms')
    UNION ALL BY NAME
    SELECT w.event_id, 2 AS rank, t.at_ms AS since,
        COLUMNS(t.* EXCLUDE (person, at_ms, item_id, event_id, kind, value, currency))
    FROM wanted w ASOF JOIN touch t ON t.item_id = w.item_id AND t.person = w.person AND w.at_ms >= t.at_ms
    WHERE w.at_ms <= t.at_ms + getvariable('credit_ms')
    UNION ALL BY NAME
    SELECT w.event_id, 1 AS rank, p.at_ms AS since, COLUMNS(p.* EXCLUDE (person, at_ms, item_id))
    FROM wanted w ASOF JOIN newest p ON p.item_id = w.item_id AND p.person = w.person AND w.at_ms >= p.at_ms
    WHERE w.named IS NULL AND w.at_ms <= p.at_ms + getvariable('window_ms')
),
best AS (
    SELECT * FROM found
    QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY rank DESC, since DESC, recommendation_id DESC, position) = 1
)
SELECT h.event_id, kind, coalesce(best.user_id, h.user_id) AS user_id, item_id, at_ms,
    coalesce(recommendation_id, '') AS recommendation_id, coalesce(placement, '') AS placement,
    coalesce(model_version, '') AS model_version, coalesce(experiment, '') AS experiment,
    coalesce(variant, '') AS variant, coalesce(revision, 0) AS revision, coalesce(position, -1) AS position,
    coalesce(source, '') AS source,
    CASE WHEN (h.user_id, bucket_of(at_ms)) IN (SELECT (visitor, bucket) FROM scripted)
        THEN 'scripted' ELSE coalesce(cohort, '') END AS cohort,
    value, currency, listed_at, list_model, answered_by
FROM happened h LEFT JOIN best USING (event_id) WHERE list_contains(kinds, kind);

-- The first click or the first cart of a place, of a table of all of them.
CREATE MACRO first_of(a_kind, responses) AS TABLE
SELECT c.* FROM query_table(responses) c
LEFT JOIN (
    SELECT recommendation_id, item_id, min((at_ms, event_id)) AS earliest FROM past WHERE kind = a_kind GROUP BY ALL
) USING (recommendation_id, item_id)
WHERE recommendation_id <> '' AND (earliest IS NULL OR (at_ms, event_id) < earliest)
QUALIFY row_number() OVER (PARTITION BY recommendation_id, item_id ORDER BY at_ms, event_id) = 1;

CREATE TABLE clicks AS FROM credited(['click'], []);
INSERT INTO credits FROM first_of('click', 'clicks');
DROP TABLE clicks;
CREATE TABLE carts AS FROM credited(['cart'], ['click']);
INSERT INTO credits FROM first_of('cart', 'carts');
-- Other carts are kept without credit, since a late click may change it.
INSERT INTO credits
SELECT * REPLACE ('' AS recommendation_id, '' AS placement, '' AS model_version, '' AS experiment, '' AS variant,
    0 AS revision, -1 AS position, '' AS source, NULL AS listed_at, NULL AS list_model, NULL AS answered_by)
FROM carts ANTI JOIN credits USING (event_id);
DROP TABLE carts;
INSERT INTO credits SELECT * FROM credited(['purchase'], ['click', 'cart']);
INSERT INTO credits SELECT * FROM credited(['refund'], ['purchase']);

-- Views and credits: what is summed, how much of it, and the visitor.
CREATE VIEW counted AS
SELECT 'answers' AS measure, 1 AS amount, '' AS currency, * FROM all_places WHERE within(at_ms)
UNION ALL BY NAME
SELECT DISTINCT 'impressions' AS measure, 1 AS amount, '' AS currency,
    p.* REPLACE (bucket_of(k.at_ms) AS at_ms)
FROM keys k JOIN places p ON p.recommendation_id = k.named AND p.item_id = k.item_id AND p.person = k.person
WHERE kind = 'impression' AND k.at_ms >= p.at_ms
UNION ALL BY NAME
SELECT kind || 's' AS measure, CASE kind WHEN 'refund' THEN coalesce(value, 0) ELSE 1 END AS amount, * FROM credits
WHERE kind <> 'cart' OR recommendation_id <> ''
UNION ALL BY NAME
SELECT 'revenue' AS measure, value AS amount, * FROM credits WHERE kind = 'purchase' AND value > 0;

-- Sums by bucket, dimensions and currency. The least hashes of their visitors tell groups of few from others.
CREATE TABLE sums AS
SELECT start, placement, model_version, experiment, variant, revision, position, source, cohort, currency,
    sum(answers)::BIGINT AS answers, sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks,
    sum(carts)::BIGINT AS carts, sum(purchases)::BIGINT AS purchases, sum(revenue)::BIGINT AS revenue,
    sum(refunds)::BIGINT AS refunds, list_sort(min(hash, getvariable('fewest_visitors')))::UINTEGER[] AS visitors
FROM (
    SELECT bucket_of(at_ms) AS start, placement, model_version, experiment, variant, revision, position, source,
        CASE WHEN visitor IS NULL THEN cohort ELSE 'scripted' END AS cohort, currency,
        md5_number_lower(getvariable('hash_key') || user_id) % 4294967296 AS hash,
        sum(CASE measure WHEN 'answers' THEN amount ELSE 0 END) AS answers,
        sum(CASE measure WHEN 'impressions' THEN amount ELSE 0 END) AS impressions,
        sum(CASE measure WHEN 'clicks' THEN amount ELSE 0 END) AS clicks,
        sum(CASE measure WHEN 'carts' THEN amount ELSE 0 END) AS carts,
        sum(CASE measure WHEN 'purchases' THEN amount ELSE 0 END) AS purchases,
        sum(CASE measure WHEN 'revenue' THEN amount ELSE 0 END) AS revenue,
        sum(CASE measure WHEN 'refunds' THEN amount ELSE 0 END) AS refunds
    FROM counted LEFT JOIN scripted ON visitor = user_id AND bucket = bucket_of(at_ms)
    GROUP BY ALL
) GROUP BY ALL ORDER BY ALL;

-- Slates of experiments, in tenths of a millisecond, by visitor: those that were not summed yet, and how far this goes.
CREATE VIEW participated AS SELECT *, bucket_of(at_ms) AS start FROM shown WHERE within(at_ms) AND revision > 0;
CREATE TABLE participants AS
SELECT experiment, revision, user_id, variant, min(at_ms) AS first_at, max(at_ms) AS last_at, count(*) AS slates,
    count(*) FILTER (coalesce(len(items), 0) = 0) AS empty, count(*) FILTER (failed) AS failed,
    count(*) FILTER (latency > 0) AS timed, sum(latency)::BIGINT AS latency
FROM participated LEFT JOIN summed USING (start, topic_id, "partition") WHERE "offset" > coalesce(last_offset, -1)
GROUP BY ALL ORDER BY ALL;
CREATE VIEW summed_now AS
SELECT start, topic_id, "partition", max("offset") AS last_offset FROM participated GROUP BY ALL ORDER BY ALL;

-- Slates by answering step, as they are answered.
CREATE VIEW lists AS
SELECT bucket_of(at_ms) AS start, model_version, answered_by, count(*) AS slates, count(*) FILTER (len(items) > 0) AS shown,
    coalesce(sum(len(items)), 0)::BIGINT AS items
FROM shown WHERE within(at_ms) GROUP BY ALL ORDER BY ALL;

-- What is written to SQL: all but rows of erased users from before their erasure.
CREATE VIEW users AS SELECT user_id FROM credits UNION SELECT user_id FROM participants;
CREATE VIEW new_credits AS
SELECT * FROM credits c WHERE NOT EXISTS (FROM erased e WHERE e.user_id = c.user_id AND c.at_ms <= asked_at);
CREATE VIEW new_participants AS
SELECT * FROM participants p WHERE NOT EXISTS (FROM erased e WHERE e.user_id = p.user_id AND p.first_at <= asked_at);
CREATE VIEW changed AS
SELECT DISTINCT user_id, item_id
FROM ((FROM credits_before EXCEPT FROM new_credits) UNION ALL (FROM new_credits EXCEPT FROM credits_before));
CREATE VIEW to_renew AS FROM renewed UNION FROM users;

-- Slates of experiments of which a response has changed, and those with what they had led to before.
CREATE VIEW affected AS FROM responded UNION SELECT recommendation_id FROM credits WHERE experiment <> '';
CREATE VIEW followed AS
SELECT recommendation_id, responses_before.* EXCLUDE (recommendation_id)
FROM affected LEFT JOIN responses_before USING (recommendation_id) ORDER BY recommendation_id;

-- Slates of which a response has changed.
CREATE VIEW affected_lists AS FROM credited UNION SELECT recommendation_id FROM credits WHERE recommendation_id <> '';
