-- Who may ask, continued: keys that login issues, OAuth tokens, signatures of changing calls, the audit log.

CREATE TABLE binding (                      -- keys issued to a person by the API's login
  access_key         TEXT    PRIMARY KEY,
  app_id             TEXT    NOT NULL REFERENCES app (app_id),
  email              TEXT    NOT NULL REFERENCES console_user (email),
  secret_key_sealed  BLOB    NOT NULL,
  created            INTEGER NOT NULL,
  refreshed          INTEGER NOT NULL       -- the lifetime in the settings counts from here
);
CREATE INDEX binding_email ON binding (email, refreshed);

CREATE TABLE oauth_token (
  token_hash     BLOB    PRIMARY KEY,       -- SHA-256: the token itself has 168 random bits
  app_id         TEXT    NOT NULL REFERENCES app (app_id),
  created        INTEGER NOT NULL,
  expires        INTEGER NOT NULL           -- kept for a while after that, so that "expired" can be told from "unknown"
) WITHOUT ROWID;
CREATE INDEX oauth_token_expires ON oauth_token (expires);
CREATE INDEX oauth_token_app ON oauth_token (app_id, created);

CREATE TABLE signed_call (                  -- signatures of changing calls: each is good for one body
  signature      BLOB    PRIMARY KEY,
  body_hash      BLOB    NOT NULL,          -- SHA-256
  answer         BLOB,                      -- what the call was answered; null = it has not ended
  expires        INTEGER NOT NULL           -- from then on its date is refused
) WITHOUT ROWID;
CREATE INDEX signed_call_expires ON signed_call (expires);

CREATE TABLE audit (
  id             INTEGER PRIMARY KEY,
  at             INTEGER NOT NULL,
  last           INTEGER NOT NULL,          -- of those that are folded into this row
  times          INTEGER NOT NULL CHECK (times > 0),
  actor          TEXT    NOT NULL,          -- "cli:root", "app:soar", "user:alice@corp.example"; empty = unknown
  kind           TEXT    NOT NULL,
  what           TEXT    NOT NULL,
  address        TEXT    NOT NULL,
  outcome        TEXT    NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
  detail         TEXT    NOT NULL           -- never a secret
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_refused ON audit (id) WHERE outcome = 'refused';

ALTER TABLE console_user ADD COLUMN disabled INTEGER;  -- since when; null = may log in

-- The built-in role that may look may do so with keys from login, too.
UPDATE role SET permissions = replace(permissions, ']', ', "Services | API Login | Edit"]') WHERE name = 'monitor';
-- What the vendor-compatible API tells beside the queue and the history.

CREATE TABLE rejection (                   -- what was refused at SMTP time; folded when a peer hammers (smtp_in/rejections.py)
  id             INTEGER PRIMARY KEY,      -- time in the high bits, as all ids; of a node of its own
  ip             TEXT    NOT NULL,
  helo           TEXT    NOT NULL,
  env_from       TEXT    NOT NULL,
  recipient      TEXT    NOT NULL,
  kind           TEXT    NOT NULL,         -- relaying, address, size, content, limit, unavailable
  reply          TEXT    NOT NULL,
  number         INTEGER NOT NULL CHECK (number > 0)   -- refusals that this row stands for
);

CREATE TABLE release_log (                 -- what people did with held mail: it outlives the entry
  id             INTEGER PRIMARY KEY,      -- time in the high bits
  entry_id       INTEGER NOT NULL,
  action         INTEGER NOT NULL,         -- release or reject (codes.py)
  actor          TEXT    NOT NULL,
  reason         TEXT    NOT NULL,         -- what the person said
  held_for       TEXT    NOT NULL,         -- why it was held
  route          INTEGER NOT NULL,
  env_from       TEXT    NOT NULL,
  from_address   TEXT    NOT NULL,
  from_name      TEXT    NOT NULL,
  recipient      TEXT    NOT NULL,
  recipient_name TEXT    NOT NULL,
  subject        TEXT    NOT NULL,
  size           INTEGER NOT NULL,
  attachment     INTEGER NOT NULL
);

CREATE TABLE queue_sample (                -- how many entries waited, each 10 minutes; zeros included
  at             INTEGER NOT NULL,
  queue          INTEGER NOT NULL,
  route          INTEGER NOT NULL,
  number         INTEGER NOT NULL,
  PRIMARY KEY (at, queue, route)
) WITHOUT ROWID;

-- The Message-ID field of the header, so that an ended message is found by it. Not indexed: searches are bounded in time.
ALTER TABLE history ADD COLUMN header_id TEXT NOT NULL DEFAULT '';
