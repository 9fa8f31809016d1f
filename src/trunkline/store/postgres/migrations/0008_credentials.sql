-- Keys for machines. A key itself is kept nowhere.
create table api_keys (
    key_id     text collate "C" not null primary key,
    project    text collate "C" not null,
    name       text collate "C" not null,              -- what its maker calls it
    digest     text collate "C" not null,              -- SHA-256 of the key
    grants     text collate "C" not null,              -- JSON list: what it may do
    created_by text collate "C" not null,              -- issuer|subject
    created_at text collate "C" not null,              -- RFC 3339, UTC
    expires_at text collate "C" not null
);
create index api_keys_by_age on api_keys (project, created_at, key_id);

-- Whose credentials are worth nothing that were issued before a time.
create table revocations (
    issuer     text collate "C" not null,
    subject    text collate "C" not null,
    revoked_at text collate "C" not null,              -- RFC 3339, UTC
    revoked_by text collate "C" not null,              -- issuer|subject
    primary key (issuer, subject)
);

-- Until when whoever is connected to a session has shown newer credentials.
create table renewals (
    project    text collate "C" not null,
    agent      text collate "C" not null,
    session_id text collate "C" not null,
    identity   text collate "C" not null,              -- issuer|subject
    expires_at text collate "C" not null,              -- RFC 3339, UTC
    primary key (project, agent, session_id, identity)
);
create index renewals_by_expiry on renewals (expires_at);
