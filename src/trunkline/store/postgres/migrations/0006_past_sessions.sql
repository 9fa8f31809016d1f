-- Whose a session was that isn't there any more: its owner is told so, and nobody else is.
create table past_sessions (
    project    text collate "C" not null,
    agent      text collate "C" not null,
    session_id text collate "C" not null,
    owner      text collate "C" not null,  -- issuer|subject of its creator
    ended_at   text collate "C" not null,  -- RFC 3339, UTC
    primary key (project, agent, session_id, owner)
);
create index past_sessions_by_end on past_sessions (ended_at);
