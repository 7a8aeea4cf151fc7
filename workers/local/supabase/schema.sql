-- The July tables as far as workers and producers see them. JSON columns hold text.

CREATE TABLE jobs (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, job_type TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'queued',
    image_id TEXT, video_id TEXT, error_message TEXT, metadata TEXT NOT NULL DEFAULT '{}',
    attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3,
    created_at TEXT NOT NULL, started_at TEXT, completed_at TEXT
);

CREATE TABLE images (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, job_id TEXT, image_index INTEGER, prompt TEXT, enhanced_prompt TEXT,
    status TEXT NOT NULL DEFAULT 'queued', image_url TEXT, thumbnail_url TEXT, metadata TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL, updated_at TEXT
);

CREATE TABLE videos (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, job_id TEXT, prompt TEXT, enhanced_prompt TEXT,
    status TEXT NOT NULL DEFAULT 'queued', video_url TEXT, thumbnail_url TEXT, error_message TEXT,
    metadata TEXT NOT NULL DEFAULT '{}', created_at TEXT NOT NULL, completed_at TEXT
);

CREATE TABLE workspace_assets (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, job_id TEXT NOT NULL, asset_type TEXT NOT NULL,
    temp_storage_path TEXT NOT NULL, thumbnail_path TEXT, metadata TEXT NOT NULL DEFAULT '{}', created_at TEXT NOT NULL
);

CREATE TABLE objects (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, path TEXT NOT NULL, content_type TEXT NOT NULL, size INTEGER NOT NULL,
    etag TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, UNIQUE (bucket, path)
);

-- What the browser has not linked yet cannot be completed.

CREATE TRIGGER image_link BEFORE UPDATE OF status ON jobs
WHEN NEW.status = 'completed' AND NEW.job_type LIKE '%image%' AND NEW.image_id IS NULL
BEGIN SELECT RAISE(ABORT, 'Cannot complete image job without associated image_id'); END;

CREATE TRIGGER video_link BEFORE UPDATE OF status ON jobs
WHEN NEW.status = 'completed' AND NEW.job_type LIKE '%video%' AND NEW.video_id IS NULL
BEGIN SELECT RAISE(ABORT, 'Cannot complete video job without associated video_id'); END;
