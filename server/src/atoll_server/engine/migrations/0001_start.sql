-- Records are kept whole as JSON; the columns beside it exist to be filtered and ordered by.
CREATE TABLE sandboxes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    terminated_at TEXT,
    record TEXT NOT NULL,
    host TEXT NOT NULL
) STRICT;

CREATE INDEX sandboxes_by_state ON sandboxes (state, seq);
-- Small, because almost every row is a terminated one.
CREATE INDEX sandboxes_live ON sandboxes (seq) WHERE state <> 'terminated';
CREATE INDEX sandboxes_by_end ON sandboxes (terminated_at) WHERE state = 'terminated';

CREATE TABLE sandbox_metadata (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES sandboxes (seq) ON DELETE CASCADE,
    PRIMARY KEY (key, value, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX sandbox_metadata_by_sandbox ON sandbox_metadata (seq);

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
