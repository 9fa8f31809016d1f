-- Who did what, from where, with what result. Rows are only ever added, and removed when old.
create table audit (
    entry_id   text not null primary key,  -- its time and something random: in the order of their times
    at         text not null,              -- RFC 3339, UTC
    project    text,
    agent      text,
    session_id text,
    action     text not null,              -- connect, create_session, delete_agent, ...
    status     integer not null,            -- the answer's
    identity   text,              -- issuer|subject; null for nobody known
    acting_for text,              -- the user named by the identity
    credential text,              -- what it came in with; no secret
    address    text not null,
    request_id text not null
) strict;
create index audit_by_project on audit (project, entry_id);
create index audit_by_session on audit (project, agent, session_id, entry_id);
create index audit_by_identity on audit (identity, entry_id);
