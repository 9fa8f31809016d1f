-- Each lets one connection in, once: it is removed when it is used.
create table tickets (
    digest     text collate "C" not null primary key,  -- SHA-256 of the ticket, which is kept nowhere
    project    text collate "C" not null,
    agent      text collate "C" not null,
    session_id text collate "C" not null,
    origin     text collate "C",              -- where the page that uses it is from
    caller     text collate "C" not null,              -- JSON: who connects with it, and what they may do
    expires_at text collate "C" not null               -- RFC 3339, UTC
);
create index tickets_by_expiry on tickets (expires_at);
