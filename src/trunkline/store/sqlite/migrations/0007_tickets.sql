-- Each lets one connection in, once: it is removed when it is used.
create table tickets (
    digest     text not null primary key,  -- SHA-256 of the ticket, which is kept nowhere
    project    text not null,
    agent      text not null,
    session_id text not null,
    origin     text,              -- where the page that uses it is from
    caller     text not null,              -- JSON: who connects with it, and what they may do
    expires_at text not null               -- RFC 3339, UTC
) strict;
create index tickets_by_expiry on tickets (expires_at);
