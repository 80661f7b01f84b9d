-- What upkeep and a quick start need: which texts of the info dictionary are still in use, which files are bodies of a message,
-- and which entries are leased, all without reading a full queue.

-- The sweep in whose time a text was last taken. A sweep raises the number first, then looks which ids entries and events
-- use, then deletes what nobody uses and nobody has taken since: in the order of transactions, so that no clock can err.
ALTER TABLE info ADD COLUMN used INTEGER NOT NULL DEFAULT 0;

CREATE TABLE upkeep (
  what           TEXT    PRIMARY KEY,
  number         INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO upkeep (what, number) VALUES
  ('proof', 0),                            -- counted up by a commit that must really write something
  ('sweep', 1),
  ('swept', 0),                            -- when the last one ended (milliseconds)
  ('texts', 0);                            -- how many texts it left

-- Partial: the mail whose body is in the database, nearly all of it, never touches this index.
CREATE INDEX message_object ON message (body_object) WHERE body_object <> '';

-- The same index with the lease in it, so that a start, and each look at /metrics, finds the few entries that are leased among the
-- many that are due at the same time without reading their rows (12 s or 35 ms from a cold disk at a million). It is one
-- bit in a key that changes whenever a lease begins or ends anyway.
DROP INDEX entry_due;
CREATE INDEX entry_due ON entry (queue, coalesce(locked_until, next_attempt), lease IS NOT NULL);
