-- Keys for machines. A key itself is kept nowhere.
create table api_keys (
    key_id     text not null primary key,
    project    text not null,
    name       text not null,              -- what its maker calls it
    digest     text not null,              -- SHA-256 of the key
    grants     text not null,              -- JSON list: what it may do
    created_by text not null,              -- issuer|subject
    created_at text not null,              -- RFC 3339, UTC
    expires_at text not null
) strict;
create index api_keys_by_age on api_keys (project, created_at, key_id);

-- Whose credentials are worth nothing that were issued before a time.
create table revocations (
    issuer     text not null,
    subject    text not null,
    revoked_at text not null,              -- RFC 3339, UTC
    revoked_by text not null,              -- issuer|subject
    primary key (issuer, subject)
) strict;

-- Until when whoever is connected to a session has shown newer credentials.
create table renewals (
    project    text not null,
    agent      text not null,
    session_id text not null,
    identity   text not null,              -- issuer|subject
    expires_at text not null,              -- RFC 3339, UTC
    primary key (project, agent, session_id, identity)
) strict;
create index renewals_by_expiry on renewals (expires_at);
