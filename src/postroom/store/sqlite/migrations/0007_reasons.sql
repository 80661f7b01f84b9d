-- What waits for which reason: no index led from a reason to its entries, so a text that stands in reasons walked all of the queue's index.

-- As `tally`: only entries up to `counted.upto`, so that mail which passes at once is never in it; kept by triggers, whoever writes. All that
-- a filter asks stands in it, so that what is found is counted without reading rows.
CREATE TABLE reason (
  info_id        INTEGER NOT NULL,
  queue          INTEGER NOT NULL,
  id             INTEGER NOT NULL,         -- of the entry
  route          INTEGER NOT NULL,
  attachment     INTEGER NOT NULL,
  PRIMARY KEY (info_id, queue, id)
) WITHOUT ROWID;

-- (A damaged row may hold NULL where none may be: it is left out, and keeps nothing else from going on.)
INSERT OR IGNORE INTO reason (info_id, queue, id, route, attachment)
  SELECT info_id, queue, id, route, attachment FROM entry WHERE id <= (SELECT upto FROM counted) ORDER BY 1, 2, 3;

DROP TRIGGER tally_insert;
CREATE TRIGGER tally_insert AFTER INSERT ON entry WHEN new.id <= (SELECT upto FROM counted)
BEGIN
  INSERT INTO tally (queue, route, attachment, hour, number)
    VALUES (new.queue, new.route, new.attachment, new.id / 3774873600000, 1)
    ON CONFLICT (queue, route, attachment, hour) DO UPDATE SET number = number + 1;
  INSERT OR IGNORE INTO reason (info_id, queue, id, route, attachment)
    VALUES (new.info_id, new.queue, new.id, new.route, new.attachment);
  UPDATE counted SET late = late + 1;
END;

DROP TRIGGER tally_move;
CREATE TRIGGER tally_move AFTER UPDATE OF queue, route, attachment ON entry WHEN
  (new.queue IS NOT old.queue OR new.route IS NOT old.route OR new.attachment IS NOT old.attachment) AND new.id <= (SELECT upto FROM counted)
BEGIN
  UPDATE tally SET number = number - 1
    WHERE queue = old.queue AND route = old.route AND attachment = old.attachment AND hour = old.id / 3774873600000;
  INSERT INTO tally (queue, route, attachment, hour, number)
    SELECT new.queue, new.route, new.attachment, new.id / 3774873600000, 1
      WHERE 'null' NOT IN (typeof(new.queue), typeof(new.route), typeof(new.attachment))   -- (IS NOT NULL is taken for granted here)
    ON CONFLICT (queue, route, attachment, hour) DO UPDATE SET number = number + 1;
END;

DROP TRIGGER tally_delete;
CREATE TRIGGER tally_delete AFTER DELETE ON entry WHEN old.id <= (SELECT upto FROM counted)
BEGIN
  UPDATE tally SET number = number - 1
    WHERE queue = old.queue AND route = old.route AND attachment = old.attachment AND hour = old.id / 3774873600000;
  DELETE FROM reason WHERE info_id = old.info_id AND queue = old.queue AND id = old.id;
END;

CREATE TRIGGER reason_move AFTER UPDATE OF info_id, queue, route, attachment ON entry WHEN
  (new.info_id IS NOT old.info_id OR new.queue IS NOT old.queue OR new.route IS NOT old.route OR new.attachment IS NOT old.attachment)
  AND new.id <= (SELECT upto FROM counted)
BEGIN
  DELETE FROM reason WHERE info_id = old.info_id AND queue = old.queue AND id = old.id;
  INSERT OR IGNORE INTO reason (info_id, queue, id, route, attachment)
    VALUES (new.info_id, new.queue, new.id, new.route, new.attachment);
END;

CREATE TRIGGER reason_text_changed AFTER UPDATE OF folded ON info   -- by a repair only: the search index knows texts by their id
BEGIN
  UPDATE counted SET token = random();
END;
