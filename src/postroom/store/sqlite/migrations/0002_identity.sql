-- Who may ask: roles, applications (the vendor-compatible API), people and their console sessions.
-- Secrets that must be known again (HMAC keys) are sealed with a key outside this file; all others are hashes.
-- "user" and "session" are words of PostgreSQL, hence the longer names.

CREATE TABLE role (
  name           TEXT    PRIMARY KEY,
  permissions    TEXT    NOT NULL CHECK (permissions LIKE '[%]')  -- JSON list; "*" = all, also those of later releases
);

CREATE TABLE app (
  app_id             TEXT    PRIMARY KEY,
  name               TEXT    NOT NULL,
  role               TEXT    NOT NULL REFERENCES role (name),
  app_key_sealed     BLOB    NOT NULL,
  access_key         TEXT    NOT NULL UNIQUE,
  secret_key_sealed  BLOB    NOT NULL,
  client_id          TEXT    NOT NULL UNIQUE,
  client_secret_hash BLOB    NOT NULL,      -- SHA-256: the secret itself has 256 random bits
  created            INTEGER NOT NULL,
  revoked            INTEGER
);

CREATE TABLE console_user (
  email          TEXT    PRIMARY KEY,       -- folded
  password_hash  TEXT    NOT NULL,          -- argon2id
  role           TEXT    NOT NULL REFERENCES role (name),
  created        INTEGER NOT NULL
);

CREATE TABLE console_session (
  token_hash     BLOB    PRIMARY KEY,       -- SHA-256: a stolen database opens no session
  email          TEXT    NOT NULL REFERENCES console_user (email),
  created        INTEGER NOT NULL,
  expires        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX console_session_expires ON console_session (expires);

INSERT INTO role (name, permissions) VALUES
  ('administrator', '["*"]'),
  ('monitor', '["Monitoring | Processing | Read", "Account | Dashboard | Read", "Account | Monitoring | Held Summary | Read", "Monitoring | Held | Read", "Monitoring | Rejections | Read", "Gateway | Tracking | Read"]');
