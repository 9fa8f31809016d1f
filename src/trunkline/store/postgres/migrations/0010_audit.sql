-- Who did what, from where, with what result. Rows are only ever added, and removed when old.
create table audit (
    entry_id   text collate "C" not null primary key,  -- its time and something random: in the order of their times
    at         text collate "C" not null,              -- RFC 3339, UTC
    project    text collate "C",
    agent      text collate "C",
    session_id text collate "C",
    action     text collate "C" not null,              -- connect, create_session, delete_agent, ...
    status     bigint not null,            -- the answer's
    identity   text collate "C",              -- issuer|subject; null for nobody known
    acting_for text collate "C",              -- the user named by the identity
    credential text collate "C",              -- what it came in with; no secret
    address    text collate "C" not null,
    request_id text collate "C" not null
);
create index audit_by_project on audit (project, entry_id);
create index audit_by_session on audit (project, agent, session_id, entry_id);
create index audit_by_identity on audit (identity, entry_id);
