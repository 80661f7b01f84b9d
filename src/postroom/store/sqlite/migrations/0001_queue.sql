-- The queue: messages, their bodies, entries, history, ledger. Times are milliseconds UTC; ids are described in ids.py.
-- Words are stored as small numbers (codes.py) because they stand in indexes; the CHECKs hold the invariants.

CREATE TABLE message (
  id            INTEGER PRIMARY KEY,      -- = id of its first entry
  remote_ip     TEXT    NOT NULL,
  remote_name   TEXT    NOT NULL,
  helo          TEXT    NOT NULL,
  esmtp         INTEGER NOT NULL,
  tls           TEXT    NOT NULL,
  auth_user     TEXT    NOT NULL,
  env_from      TEXT    NOT NULL,
  from_address  TEXT    NOT NULL,
  from_name     TEXT    NOT NULL,
  to_header     TEXT    NOT NULL,
  subject       TEXT    NOT NULL,
  message_id    TEXT    NOT NULL,         -- the header field
  size          INTEGER NOT NULL CHECK (size >= 0),
  attachment    INTEGER NOT NULL,
  facts         BLOB    NOT NULL,         -- hops, body_at, parts, depth, problems (msgpack)
  verdicts      BLOB    NOT NULL,         -- passed so far (msgpack), kept for the next try
  received      INTEGER NOT NULL,
  body_object   TEXT    NOT NULL,         -- name of the file that holds the bytes; empty = table body
  body_hash     BLOB    NOT NULL
);

CREATE TABLE body (
  message_id    INTEGER PRIMARY KEY,
  bytes         BLOB    NOT NULL
);

CREATE TABLE info (                       -- a million entries share some hundred texts
  id            INTEGER PRIMARY KEY,
  text          TEXT    NOT NULL UNIQUE,
  folded        TEXT    NOT NULL
);

CREATE TABLE entry (
  id             INTEGER PRIMARY KEY,
  message_id     INTEGER NOT NULL,
  queue          INTEGER NOT NULL CHECK (queue BETWEEN 0 AND 4),
  from_queue     INTEGER CHECK ((from_queue IS NULL) = (queue <> 3)),   -- only held entries came from somewhere
  route          INTEGER NOT NULL,
  recipient      TEXT    NOT NULL,
  recipient_name TEXT    NOT NULL,
  priority       INTEGER NOT NULL,
  info_id        INTEGER NOT NULL,
  attempts       INTEGER NOT NULL,
  since          INTEGER NOT NULL,         -- when it came under the schedule it is tried by
  next_attempt   INTEGER NOT NULL,
  locked_until   INTEGER CHECK ((locked_until IS NULL) = (lease IS NULL)),
  lease          INTEGER,                  -- = id for an entry that was born leased
  strikes        INTEGER NOT NULL,         -- leases in a row that ended without a result
  label          INTEGER NOT NULL,
  request        INTEGER,                  -- what a person asked for while it was leased
  waived         TEXT    NOT NULL,         -- checks whose hold a person has lifted, or would lift by a release
  env_from       TEXT    NOT NULL,
  from_address   TEXT    NOT NULL,
  from_name      TEXT    NOT NULL,
  to_header      TEXT    NOT NULL,
  subject        TEXT    NOT NULL,
  remote_ip      TEXT    NOT NULL,
  size           INTEGER NOT NULL,
  attachment     INTEGER NOT NULL,
  search         TEXT    NOT NULL          -- folded fields, each behind its own control character (search.py)
);

-- A closed list: each more costs 10-15 us on every message. What is claimed is found by queue and by the time it is due:
-- the end of a lease, or else the next attempt.
CREATE INDEX entry_queue   ON entry (queue, id);
CREATE INDEX entry_filter  ON entry (queue, route, attachment, id);
CREATE INDEX entry_due     ON entry (queue, coalesce(locked_until, next_attempt));
CREATE INDEX entry_message ON entry (message_id);

CREATE TABLE event (                       -- only of entries that waited
  id            INTEGER PRIMARY KEY,
  entry_id      INTEGER NOT NULL,
  at            INTEGER NOT NULL,
  kind          TEXT    NOT NULL,
  queue         INTEGER NOT NULL,          -- after it
  info_id       INTEGER,
  actor         TEXT    NOT NULL
);
CREATE INDEX event_entry ON event (entry_id);

CREATE TABLE history (
  id             INTEGER PRIMARY KEY,
  message_id     INTEGER NOT NULL,
  queue          INTEGER NOT NULL,         -- where it ended
  route          INTEGER NOT NULL,
  recipient      TEXT    NOT NULL,
  recipient_name TEXT    NOT NULL,
  priority       INTEGER NOT NULL,
  attempts       INTEGER NOT NULL,
  label          INTEGER NOT NULL,
  env_from       TEXT    NOT NULL,
  from_address   TEXT    NOT NULL,
  from_name      TEXT    NOT NULL,
  to_header      TEXT    NOT NULL,
  subject        TEXT    NOT NULL,
  remote_ip      TEXT    NOT NULL,
  size           INTEGER NOT NULL,
  attachment     INTEGER NOT NULL,
  outcome        INTEGER NOT NULL,
  ended          INTEGER NOT NULL,
  reply          TEXT    NOT NULL,
  events         BLOB    NOT NULL          -- what lies between acceptance and end, packed, when it never waited (msgpack)
);

CREATE TABLE ledger (                      -- counted in the transaction of the fact
  connection    INTEGER NOT NULL,          -- the process life that counted
  kind          TEXT    NOT NULL,          -- an origin, or an outcome
  number        INTEGER NOT NULL,
  PRIMARY KEY (connection, kind)
) WITHOUT ROWID;

CREATE TABLE pause (
  scope         TEXT    PRIMARY KEY,
  since         INTEGER NOT NULL,
  actor         TEXT    NOT NULL
);
