"""Schema of a label store: numbered migrations, each one SQL script; `PRAGMA user_version` is the last one applied.

events      what people did, one row per act, only ever appended; triggers refuse UPDATE and DELETE
opinions    what each annotator holds now, per image and label
decisions   what each annotator holds now, per image
held        what holds now, per image and label
current     view of `held` with names; `opinions_by_name` the same per annotator; `label_events` one row per label

Triggers alone write `opinions`, `decisions` and `held`, from events: whatever tool appends an event leaves them right.
"""
# FIRST and what it is made of are released: they stay as they are, and what is new is a script of its own.

from tune_btxrd.data.readers.store_file import STORE_VERSION

SOME_UNASKED = "(SELECT count(*) FROM held h WHERE h.image = NEW.image) < (SELECT count(*) FROM labels)"
REFRESH = """
  DELETE FROM held WHERE image = NEW.image;
  INSERT INTO held (image, label, value, readers, disputed)
    SELECT o.image, o.label,
      CASE
        WHEN max(o.settles) = 1 THEN (
          SELECT s.value FROM opinions s
          WHERE s.image = o.image AND s.label = o.label AND s.settles = 1 ORDER BY s.event DESC LIMIT 1)
        WHEN min(o.value) = max(o.value) THEN min(o.value)
      END,
      count(o.value),
      coalesce(max(o.settles) = 0 AND min(o.value) <> max(o.value), 0)
    FROM opinions o WHERE o.image = NEW.image GROUP BY o.label;
  UPDATE images SET
    readers = (SELECT count(*) FROM decisions d WHERE d.image = NEW.image AND d.kind <> 'skip'),
    bad = coalesce(
      (SELECT d.kind = 'bad' FROM decisions d
       WHERE d.image = NEW.image AND d.settles = 1 ORDER BY d.event DESC LIMIT 1),
      EXISTS (SELECT 1 FROM decisions d WHERE d.image = NEW.image AND d.kind = 'bad'))
    WHERE image = NEW.image;
  UPDATE images SET
    disputed = EXISTS (SELECT 1 FROM held h WHERE h.image = NEW.image AND h.disputed = 1)
      OR (bad = 1 AND EXISTS (SELECT 1 FROM decisions d WHERE d.image = NEW.image AND d.kind = 'label')
          AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.image = NEW.image AND d.settles = 1)),
    open = bad = 0 AND ({is_open})
    WHERE image = NEW.image;
"""
SAID = """
CREATE TRIGGER events_said AFTER INSERT ON events WHEN NEW.kind IN ('label', 'unsure', 'bad') BEGIN
  INSERT OR REPLACE INTO opinions (image, annotator, label, value, settles, event)
    SELECT NEW.image, NEW.annotator, CAST(j.key AS INTEGER), j.value, NEW.settles, NEW.event
    FROM json_each(NEW.answers) j;
  INSERT OR REPLACE INTO decisions VALUES (NEW.image, NEW.annotator, NEW.kind, NEW.settles, NEW.event);
  {refresh}
END;
"""
UNDONE = """
CREATE TRIGGER events_undone AFTER INSERT ON events WHEN NEW.kind = 'undo' BEGIN
  DELETE FROM opinions WHERE image = NEW.image AND annotator = NEW.annotator;
  INSERT OR REPLACE INTO opinions (image, annotator, label, value, settles, event)
    SELECT e.image, e.annotator, CAST(j.key AS INTEGER), j.value, e.settles, e.event
    FROM standing e, json_each(e.answers) j
    WHERE e.image = NEW.image AND e.annotator = NEW.annotator ORDER BY e.event;
  DELETE FROM decisions WHERE image = NEW.image AND annotator = NEW.annotator;
  INSERT OR REPLACE INTO decisions
    SELECT e.image, e.annotator, e.kind, e.settles, e.event FROM standing e
    WHERE e.image = NEW.image AND e.annotator = NEW.annotator ORDER BY e.kind <> 'skip', e.event;
  {refresh}
END;
"""

FIRST = f"""
CREATE TABLE meta (
  name TEXT PRIMARY KEY,      -- task, created, holdout_share, holdout_salt, double_share, store
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE labels (
  label INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  key TEXT NOT NULL UNIQUE,   -- one character: the key on the page
  position INTEGER NOT NULL
);

CREATE TABLE images (
  image INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL UNIQUE,            -- of the file: an image is its content, wherever it lies
  image_id TEXT NOT NULL UNIQUE,          -- its first path with __ between folders; stays when the file moves
  path TEXT NOT NULL,                     -- relative to the folder of the store, with /
  group_name TEXT NOT NULL,               -- images that stay together: a patient; an image alone is a group of its own
  center TEXT,
  holdout INTEGER NOT NULL,               -- 1: never ranked, never trained on
  twice INTEGER NOT NULL,                 -- 1: is shown to two annotators, for their agreement
  shuffle INTEGER NOT NULL,               -- a random order that does not depend on what was added when
  added TEXT NOT NULL,                    -- UTC
  missing INTEGER NOT NULL DEFAULT 0,     -- 1: the file was not found when it was last looked for
  size INTEGER NOT NULL,                  -- bytes
  mtime INTEGER NOT NULL,                 -- ns, as it was hashed
  readers INTEGER NOT NULL DEFAULT 0,     -- annotators who hold something of it now
  bad INTEGER NOT NULL DEFAULT 0,         -- 1: no image to train on
  disputed INTEGER NOT NULL DEFAULT 0,    -- 1: two annotators differ and nobody has settled it
  open INTEGER NOT NULL DEFAULT 1,        -- 1: somebody has yet to say something of one of its labels
  rank INTEGER,                           -- place in the latest ranking, from 1
  confidence REAL                         -- of the latest model, the least over labels of |2p - 1|
);
CREATE INDEX images_ranked ON images (rank, shuffle) WHERE open = 1 AND holdout = 0 AND rank IS NOT NULL;
CREATE INDEX images_shuffled ON images (holdout, shuffle) WHERE open = 1;
CREATE INDEX images_confident ON images (confidence DESC) WHERE open = 1 AND holdout = 0 AND confidence IS NOT NULL;
CREATE INDEX images_twice ON images (holdout, shuffle) WHERE twice = 1 AND readers = 1 AND bad = 0;
CREATE INDEX images_disputed ON images (holdout, shuffle) WHERE disputed = 1;
CREATE INDEX images_missing ON images (missing) WHERE missing = 1;
CREATE INDEX images_reread ON images (readers) WHERE readers > 1;
CREATE INDEX images_counted ON images (holdout, open);
CREATE INDEX images_group ON images (group_name);
CREATE INDEX images_path ON images (path);

CREATE TABLE events (
  event INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('label', 'unsure', 'bad', 'skip', 'undo')),
  image INTEGER NOT NULL REFERENCES images,
  answers TEXT NOT NULL DEFAULT '{{}}' CHECK (json_valid(answers)),  -- label number -> 1, 0, or null for unsure
  annotator TEXT NOT NULL,
  time TEXT NOT NULL,                     -- UTC, ISO 8601
  seconds REAL,                           -- that the annotator spent on it
  arm TEXT NOT NULL,                      -- why it was asked for: ranked, random, twice, holdout, review, dispute, import
  settles INTEGER NOT NULL DEFAULT 0,     -- 1: ends a disagreement, whatever others hold
  undoes INTEGER UNIQUE REFERENCES events,  -- of an undo: the event that it takes back
  client TEXT NOT NULL UNIQUE,            -- the sender's own id of it: sent twice, it counts once
  CHECK ((kind = 'undo') = (undoes IS NOT NULL))
);
CREATE INDEX events_of_image ON events (image, annotator);
CREATE INDEX events_of_annotator ON events (annotator, event);
CREATE INDEX events_in_time ON events (annotator, time);
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END;
CREATE TRIGGER events_last BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END;

CREATE TABLE opinions (
  image INTEGER NOT NULL, annotator TEXT NOT NULL, label INTEGER NOT NULL,
  value INTEGER, settles INTEGER NOT NULL, event INTEGER NOT NULL,
  PRIMARY KEY (image, label, annotator)
) WITHOUT ROWID;
CREATE TABLE decisions (
  image INTEGER NOT NULL, annotator TEXT NOT NULL, kind TEXT NOT NULL, settles INTEGER NOT NULL, event INTEGER NOT NULL,
  PRIMARY KEY (image, annotator)
) WITHOUT ROWID;
CREATE INDEX decisions_of_annotator ON decisions (annotator, kind, event);
CREATE TABLE held (
  image INTEGER NOT NULL, label INTEGER NOT NULL, value INTEGER, readers INTEGER NOT NULL, disputed INTEGER NOT NULL,
  PRIMARY KEY (image, label)
) WITHOUT ROWID;

CREATE VIEW standing AS
  SELECT * FROM events e WHERE kind <> 'undo' AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.event);

{SAID.format(refresh=REFRESH.format(is_open=SOME_UNASKED))}
CREATE TRIGGER events_skipped AFTER INSERT ON events WHEN NEW.kind = 'skip' BEGIN
  INSERT OR REPLACE INTO decisions SELECT NEW.image, NEW.annotator, 'skip', 0, NEW.event
    WHERE NOT EXISTS (
      SELECT 1 FROM decisions d WHERE d.image = NEW.image AND d.annotator = NEW.annotator AND d.kind <> 'skip');
END;
{UNDONE.format(refresh=REFRESH.format(is_open=SOME_UNASKED))}
CREATE TRIGGER labels_added AFTER INSERT ON labels BEGIN
  UPDATE images SET open = 1 WHERE bad = 0 AND open = 0;
END;

CREATE TABLE leases (
  lease INTEGER PRIMARY KEY AUTOINCREMENT,
  image INTEGER NOT NULL UNIQUE REFERENCES images,
  annotator TEXT NOT NULL,
  arm TEXT NOT NULL,
  until REAL NOT NULL                     -- seconds since 1970, UTC
);
CREATE TABLE models (
  model INTEGER PRIMARY KEY,
  name TEXT NOT NULL,                     -- e.g. search and split
  sha256 TEXT NOT NULL UNIQUE,            -- of the checkpoint
  event INTEGER,                          -- last event of the labels that it was trained on
  began TEXT NOT NULL,
  ended TEXT                              -- NULL while images are being scored
);
CREATE TABLE predictions (
  model INTEGER NOT NULL REFERENCES models, image INTEGER NOT NULL REFERENCES images,
  label INTEGER NOT NULL REFERENCES labels, probability REAL NOT NULL,
  PRIMARY KEY (model, image, label)
) WITHOUT ROWID;
CREATE TABLE features (
  model INTEGER NOT NULL REFERENCES models, image INTEGER NOT NULL REFERENCES images,
  vector BLOB NOT NULL,                   -- float16, little-endian
  PRIMARY KEY (model, image)
);
CREATE TABLE rankings (
  ranking INTEGER PRIMARY KEY,
  model INTEGER REFERENCES models,
  acquisition TEXT NOT NULL,
  event INTEGER NOT NULL,                 -- last event when it was made
  time TEXT NOT NULL
);
CREATE TABLE openings (
  opening INTEGER PRIMARY KEY AUTOINCREMENT,
  search TEXT NOT NULL, split TEXT NOT NULL, checkpoints TEXT NOT NULL, images INTEGER NOT NULL,
  event INTEGER NOT NULL, time TEXT NOT NULL
);
CREATE TRIGGER openings_stay BEFORE UPDATE ON openings
  BEGIN SELECT RAISE(ABORT, 'openings are only ever appended'); END;
CREATE TRIGGER openings_last BEFORE DELETE ON openings
  BEGIN SELECT RAISE(ABORT, 'openings are only ever appended'); END;

CREATE VIEW current AS
  SELECT i.image_id, i.path, i.group_name, i.holdout, l.name AS label, h.value, h.readers, h.disputed
  FROM held h JOIN images i USING (image) JOIN labels l USING (label) WHERE i.bad = 0;
CREATE VIEW opinions_by_name AS
  SELECT i.image_id, o.annotator, l.name AS label, o.value, o.settles, o.event
  FROM opinions o JOIN images i USING (image) JOIN labels l USING (label);
CREATE VIEW label_events AS
  SELECT e.event, e.kind, i.image_id, l.name AS label, j.value, e.annotator, e.time, e.seconds, e.arm
  FROM events e JOIN images i USING (image)
  LEFT JOIN json_each(e.answers) j LEFT JOIN labels l ON l.label = CAST(j.key AS INTEGER);
"""

# Labels that come later, and whether the model's opinion was on the screen before an answer. In a store of classes an
# image that has a class keeps it when a class is added; images with several labels are asked for again.
OPEN_BY_TASK = f"""CASE (SELECT value FROM meta WHERE name = 'task')
      WHEN 'multiclass' THEN NOT EXISTS (SELECT 1 FROM held h WHERE h.image = NEW.image) ELSE {SOME_UNASKED} END"""
SECOND = f"""
ALTER TABLE labels ADD COLUMN since INTEGER NOT NULL DEFAULT 0 /* first event that can answer it */;

ALTER TABLE events ADD COLUMN saw_model INTEGER CHECK (saw_model IN (0, 1)) /* the model's opinion, before answering;
  NULL: not known */;

DROP TRIGGER events_said;
{SAID.format(refresh=REFRESH.format(is_open=OPEN_BY_TASK))}
DROP TRIGGER events_undone;
{UNDONE.format(refresh=REFRESH.format(is_open=OPEN_BY_TASK))}
DROP TRIGGER labels_added;
CREATE TRIGGER labels_added AFTER INSERT ON labels WHEN (SELECT value FROM meta WHERE name = 'task') = 'multilabel' BEGIN
  UPDATE images SET open = 1 WHERE bad = 0 AND open = 0;
END;
DROP VIEW label_events;
CREATE VIEW label_events AS
  SELECT e.event, e.kind, i.image_id, l.name AS label, j.value, e.annotator, e.time, e.seconds, e.arm, e.saw_model
  FROM events e JOIN images i USING (image)
  LEFT JOIN json_each(e.answers) j LEFT JOIN labels l ON l.label = CAST(j.key AS INTEGER);
"""

MIGRATIONS = (FIRST, SECOND)  # never edit one that was released; append the next
assert len(MIGRATIONS) == STORE_VERSION
