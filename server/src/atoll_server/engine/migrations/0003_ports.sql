CREATE TABLE ports (
    sandbox_id TEXT NOT NULL,
    port INTEGER NOT NULL,
    label TEXT NOT NULL UNIQUE,
    is_private INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (sandbox_id, port)
) STRICT, WITHOUT ROWID;

-- Made by the server for itself, at random.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;
