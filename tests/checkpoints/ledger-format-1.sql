BEGIN TRANSACTION;
CREATE TABLE batch(number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, problems INTEGER NOT NULL, rows INTEGER NOT NULL, tokens INTEGER NOT NULL, squared_lengths REAL, prepare_seconds REAL, wait_seconds REAL, compute_seconds REAL, write_seconds REAL, predicted_seconds REAL, score REAL, memory_bytes INTEGER, overflowed INTEGER NOT NULL, checkpoint INTEGER NOT NULL);
INSERT INTO "batch" VALUES(0,1,5,10,60,870.0,0.25,0.01,2.0,0.125,2.0,0.0,3221225472,0,1);
INSERT INTO "batch" VALUES(1,1,3,6,36,482.0,0.25,0.01,2.1,0.125,2.0,0.05,3221225472,0,1);
INSERT INTO "batch" VALUES(2,1,5,15,85,1545.0,0.25,0.01,2.2,0.125,2.0,0.1,3221225472,0,2);
INSERT INTO "batch" VALUES(3,1,2,5,29,533.0,0.25,0.01,2.0,0.125,2.0,0.0,3221225472,0,2);
CREATE TABLE checkpoint(number INTEGER PRIMARY KEY, at INTEGER NOT NULL, epoch INTEGER NOT NULL, shards INTEGER NOT NULL, batches INTEGER NOT NULL, window INTEGER NOT NULL, window_batch INTEGER NOT NULL, finished INTEGER NOT NULL, chain TEXT NOT NULL);
INSERT INTO "checkpoint" VALUES(0,1795238075,0,0,0,0,0,0,'225b093d93a1903c55b8f2b9e9b57e02b772d851f262bdc0063fe3a98f018db5');
INSERT INTO "checkpoint" VALUES(1,1795238075,1,1,2,10,2,0,'52d98e23cd8886d7fbe7d40654651c621cb7bf2ef6b555ce737a8640ce3a10f6');
INSERT INTO "checkpoint" VALUES(2,1795238075,1,2,4,20,4,0,'37a557d39a06877fbf1da88a259799b19386dd87f73b6a0f9222afa0e72d3350');
CREATE TABLE event(number INTEGER PRIMARY KEY, at INTEGER NOT NULL, epoch INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
INSERT INTO "event" VALUES(1,1795238075,1,'warn','batch times rise slowly');
CREATE TABLE identity(place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
INSERT INTO "identity" VALUES(0,'model.dtype','bfloat16');
INSERT INTO "identity" VALUES(1,'batch.problems','5');
CREATE TABLE launch(epoch INTEGER PRIMARY KEY, started INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0, exit_code INTEGER NOT NULL DEFAULT -1, threads INTEGER NOT NULL, process INTEGER NOT NULL, host TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '');
INSERT INTO "launch" VALUES(1,1795238075,1795238075,75,2,4711,'host','SIGTERM');
CREATE TABLE note(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "note" VALUES('model.path','/models/tiny');
CREATE TABLE partial(one INTEGER PRIMARY KEY CHECK(one = 1), shard INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, batches INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE problem(ordinal INTEGER PRIMARY KEY, id NOT NULL UNIQUE, state INTEGER NOT NULL, reason TEXT, batch INTEGER, shard INTEGER, place INTEGER, tokens INTEGER NOT NULL, rows INTEGER NOT NULL, steps INTEGER NOT NULL, truncated INTEGER NOT NULL, checkpoint INTEGER NOT NULL);
INSERT INTO "problem" VALUES(0,'plain-0',0,NULL,1,0,7,7,1,1,0,1);
INSERT INTO "problem" VALUES(1,'quote"back\slash-1',0,NULL,1,0,6,12,2,2,0,1);
INSERT INTO "problem" VALUES(2,'ümlaut 🦉-2',0,NULL,1,0,5,17,3,3,0,1);
INSERT INTO "problem" VALUES(3,'tab	new
line-3',1,'the text is not valid UTF-8 at byte 7',NULL,NULL,NULL,0,0,0,0,1);
INSERT INTO "problem" VALUES(4,'plain-4',0,NULL,0,0,4,7,1,1,0,1);
INSERT INTO "problem" VALUES(5,'quote"back\slash-5',2,'the text is empty',NULL,NULL,NULL,0,0,0,0,1);
INSERT INTO "problem" VALUES(6,'ümlaut 🦉-6',0,NULL,0,0,3,12,2,3,1,1);
INSERT INTO "problem" VALUES(7,'tab	new
line-7',0,NULL,0,0,2,22,4,4,0,1);
INSERT INTO "problem" VALUES(8,'plain-8',0,NULL,0,0,1,7,1,1,0,1);
INSERT INTO "problem" VALUES(9,'quote"back\slash-9',0,NULL,0,0,0,12,2,2,0,1);
INSERT INTO "problem" VALUES(10,'ümlaut 🦉-10',1,'the text is not valid UTF-8 at byte 7',NULL,NULL,NULL,0,0,0,0,2);
INSERT INTO "problem" VALUES(11,'tab	new
line-11',0,NULL,3,1,6,22,4,4,0,2);
INSERT INTO "problem" VALUES(12,'plain-12',0,NULL,3,1,5,7,1,1,0,2);
INSERT INTO "problem" VALUES(13,'quote"back\slash-13',0,NULL,2,1,4,12,2,2,0,2);
INSERT INTO "problem" VALUES(14,'ümlaut 🦉-14',0,NULL,2,1,3,12,2,3,1,2);
INSERT INTO "problem" VALUES(15,'tab	new
line-15',0,NULL,2,1,2,22,4,4,0,2);
INSERT INTO "problem" VALUES(16,'plain-16',2,'the text is empty',NULL,NULL,NULL,0,0,0,0,2);
INSERT INTO "problem" VALUES(17,'quote"back\slash-17',1,'the text is not valid UTF-8 at byte 7',NULL,NULL,NULL,0,0,0,0,2);
INSERT INTO "problem" VALUES(18,'ümlaut 🦉-18',0,NULL,2,1,1,17,3,3,0,2);
INSERT INTO "problem" VALUES(19,'tab	new
line-19',0,NULL,2,1,0,22,4,4,0,2);
CREATE TABLE progress(one INTEGER PRIMARY KEY CHECK(one = 1), epoch INTEGER, updated INTEGER, stage TEXT, batches INTEGER, problems INTEGER, tokens INTEGER, rows INTEGER, seconds REAL, tokens_per_second REAL, score REAL, drift TEXT, memory_bytes INTEGER, loaded_bytes INTEGER, load_bytes INTEGER);
INSERT INTO "progress" VALUES(1,1,1800000000,'running',4,15,210,36,4.0,50.0,0.025,'steady',3221225472,0,0);
CREATE TABLE shard(number INTEGER PRIMARY KEY, checkpoint INTEGER NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, problems INTEGER NOT NULL, rows INTEGER NOT NULL, tokens INTEGER NOT NULL, first_batch INTEGER NOT NULL, batches INTEGER NOT NULL, sealed_at INTEGER NOT NULL);
INSERT INTO "shard" VALUES(0,1,'part-000000.h5','f3b90579c27735a4654fd13e2c29ba3003b73e37b4c267cdfd8895662a1a47f6',18255,8,16,96,0,2,1795238075);
INSERT INTO "shard" VALUES(1,2,'part-000001.h5','3c5f11a83a92c6a7af47469acfe33187b6d7ab64246ea62fa0846d1c4841455e',18255,7,20,114,2,2,1795238075);
CREATE TABLE survey(one INTEGER PRIMARY KEY CHECK(one = 1), problems INTEGER NOT NULL, texts INTEGER NOT NULL, tokens INTEGER NOT NULL, rows INTEGER NOT NULL, batches INTEGER NOT NULL, squared_lengths REAL NOT NULL, longest INTEGER NOT NULL, truncated INTEGER NOT NULL, problems_sha256 TEXT NOT NULL);
INSERT INTO "survey" VALUES(1,37,29,388,66,8,0.0,22,4,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
CREATE INDEX problem_checkpoint ON problem(checkpoint);
CREATE INDEX batch_checkpoint ON batch(checkpoint);
PRAGMA application_id = 1398035009;
PRAGMA user_version = 1;
COMMIT;
