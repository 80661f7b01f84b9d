-- Plans: a frozen set of entries and an action, applied and undone as one; what is to end waits for the end of the undo window.

CREATE TABLE plan (
  id             INTEGER PRIMARY KEY,      -- time in the high bits, as all ids
  state          TEXT    NOT NULL CHECK (state IN
                   ('making', 'ready', 'expired', 'applying', 'applied', 'undoing', 'undone', 'ending', 'final')),
  action         TEXT    NOT NULL,
  query          TEXT    NOT NULL,         -- as it was asked
  planner        TEXT    NOT NULL,
  actor          TEXT    NOT NULL,         -- who applied it, and why
  reason         TEXT    NOT NULL,
  undoer         TEXT    NOT NULL,
  notify         INTEGER NOT NULL,         -- of a rejection: tell the sender
  gap            INTEGER NOT NULL,         -- milliseconds between two tries of one destination's entries
  created        INTEGER NOT NULL,
  expires        INTEGER NOT NULL,         -- not to be applied from then on
  applied        INTEGER,
  undo_until     INTEGER,
  finished       INTEGER,                  -- when it was undone or became final
  reached        INTEGER NOT NULL,         -- the last entry that the present state has dealt with
  entries        INTEGER NOT NULL,
  bytes          INTEGER NOT NULL,
  done           INTEGER NOT NULL,
  skipped        INTEGER NOT NULL,
  undone         INTEGER NOT NULL,
  kept           INTEGER NOT NULL,         -- not undone, each with its reason
  ended          INTEGER NOT NULL,
  summary        BLOB    NOT NULL          -- domains, senders, samples, what was left out and why (JSON)
);
CREATE INDEX plan_window ON plan (undo_until) WHERE state IN ('applying', 'applied', 'undoing', 'ending');

CREATE TABLE plan_entry (
  plan           INTEGER NOT NULL,
  entry          INTEGER NOT NULL,
  state          INTEGER NOT NULL,         -- 0 planned, 1 done, 2 skipped, 3 undone, 4 not undone, 5 ended
  why            INTEGER NOT NULL,         -- of 2 and 4 (plan_book.py)
  queue          INTEGER NOT NULL,         -- the entry as it was frozen ...
  from_queue     INTEGER,
  priority       INTEGER NOT NULL,
  info_id        INTEGER NOT NULL,
  attempts       INTEGER NOT NULL,
  since          INTEGER NOT NULL,
  next_attempt   INTEGER NOT NULL,
  turn           INTEGER NOT NULL,         -- among the plan's entries for its destination
  after_queue    INTEGER,                  -- ... and as the plan left it
  after_priority INTEGER,
  after_info     INTEGER,
  after_next     INTEGER,
  PRIMARY KEY (plan, entry)
) WITHOUT ROWID;

CREATE TABLE plan_info (                   -- texts that entries of a plan had: the dictionary may have forgotten them when it is undone
  plan           INTEGER NOT NULL,
  info_id        INTEGER NOT NULL,
  text           TEXT    NOT NULL,
  PRIMARY KEY (plan, info_id)
) WITHOUT ROWID;

ALTER TABLE role ADD COLUMN plan_limit INTEGER CHECK (plan_limit > 0);  -- entries of one plan; null = as the settings say

-- An entry that is about to end is counted, kept and hidden in a queue of its own number, which nobody claims from. The rule of the column is
-- all that changes, so the rows need not be written again.
PRAGMA writable_schema=ON;
UPDATE sqlite_master SET sql = replace(sql, 'queue BETWEEN 0 AND 4', 'queue BETWEEN 0 AND 5') WHERE type = 'table' AND name = 'entry';
PRAGMA writable_schema=RESET;
