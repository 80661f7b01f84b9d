-- Finding among millions: counters of what waits, and the reason in the index that lists a queue.

-- How many entries wait, by the hour of their id (counters.py). Only entries up to `counted.upto` are in it, so that mail that passes at
-- once is never counted at all; what is newer is counted by its index. Kept by triggers: whoever writes, keeps it.
CREATE TABLE tally (
  queue          INTEGER NOT NULL,
  route          INTEGER NOT NULL,
  attachment     INTEGER NOT NULL,
  hour           INTEGER NOT NULL,         -- id / 3774873600000: hours since 1970, 2^20 ids to the millisecond
  number         INTEGER NOT NULL,
  PRIMARY KEY (queue, route, attachment, hour)
) WITHOUT ROWID;

CREATE TABLE counted (
  only           INTEGER PRIMARY KEY CHECK (only = 1),
  upto           INTEGER NOT NULL,
  late           INTEGER NOT NULL,         -- entries that came with an id up to `upto`: the search index looks for them
  token          INTEGER NOT NULL          -- of this store: its search index has the same; another one when texts were changed
);

INSERT INTO tally (queue, route, attachment, hour, number)
  SELECT queue, route, attachment, id / 3774873600000, count(*) FROM entry INDEXED BY entry_filter GROUP BY 1, 2, 3, 4;
INSERT INTO counted (only, upto, late, token) SELECT 1, coalesce(max(id), 0), 0, random() FROM entry;

CREATE TRIGGER tally_insert AFTER INSERT ON entry WHEN new.id <= (SELECT upto FROM counted)
BEGIN
  INSERT INTO tally (queue, route, attachment, hour, number)
    VALUES (new.queue, new.route, new.attachment, new.id / 3774873600000, 1)
    ON CONFLICT (queue, route, attachment, hour) DO UPDATE SET number = number + 1;
  UPDATE counted SET late = late + 1;
END;

CREATE TRIGGER text_changed AFTER UPDATE OF search ON entry   -- by a repair only
BEGIN
  UPDATE counted SET token = random();
END;

CREATE TRIGGER tally_delete AFTER DELETE ON entry WHEN old.id <= (SELECT upto FROM counted)
BEGIN
  UPDATE tally SET number = number - 1
    WHERE queue = old.queue AND route = old.route AND attachment = old.attachment AND hour = old.id / 3774873600000;
END;

CREATE TRIGGER tally_move AFTER UPDATE OF queue, route, attachment ON entry WHEN new.id <= (SELECT upto FROM counted)
BEGIN
  UPDATE tally SET number = number - 1
    WHERE queue = old.queue AND route = old.route AND attachment = old.attachment AND hour = old.id / 3774873600000;
  INSERT INTO tally (queue, route, attachment, hour, number)
    VALUES (new.queue, new.route, new.attachment, new.id / 3774873600000, 1)
    ON CONFLICT (queue, route, attachment, hour) DO UPDATE SET number = number + 1;
END;

-- The reason, the route and the attachment beside the id: what waits for a reason is found, and what the search index has found is
-- joined with a queue, without reading rows (60 ms in place of 3 s at a million). Route and attachment never change, and mail
-- that passes at once changes its queue whenever it changes its reason, so it pays no extra write for this.
DROP INDEX entry_queue;
CREATE INDEX entry_queue ON entry (queue, id, info_id, route, attachment);
