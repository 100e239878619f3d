-- The ids by which a period's identities, slates and earlier credits are looked up, in DuckDB's SQL. Given are the tables of
-- credit.py, in which `events` has rows.

-- The ids that an event has of its visitor: a page names a user in whose name it only claims to be.
CREATE MACRO ids_of(user_id, anonymous_id) AS [user_id, replace(user_id, getvariable('apart'), ''), anonymous_id];

CREATE TABLE pairs AS
SELECT DISTINCT visitor AS user_id, item_id
FROM (SELECT unnest(ids_of(user_id, anonymous_id)) AS visitor, item_id FROM events) WHERE visitor IS NOT NULL;
CREATE VIEW visitors AS SELECT DISTINCT user_id FROM pairs;

-- Slates that events name.
CREATE VIEW named AS SELECT DISTINCT recommendation_id FROM events WHERE recommendation_id <> '';

-- Ids of persons who have several, the items of the others, and those of all persons.
CREATE VIEW linked AS SELECT visitor AS user_id FROM identities UNION SELECT person FROM identities;
CREATE VIEW unlinked AS FROM pairs ANTI JOIN linked USING (user_id);
CREATE VIEW touched AS
SELECT DISTINCT coalesce(person, user_id) AS person, item_id FROM pairs LEFT JOIN identities ON visitor = user_id;
