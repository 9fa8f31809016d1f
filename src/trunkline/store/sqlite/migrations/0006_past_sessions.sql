-- Whose a session was that isn't there any more: its owner is told so, and nobody else is.
create table past_sessions (
    project    text not null,
    agent      text not null,
    session_id text not null,
    owner      text not null,  -- issuer|subject of its creator
    ended_at   text not null,  -- RFC 3339, UTC
    primary key (project, agent, session_id, owner)
) strict;
create index past_sessions_by_end on past_sessions (ended_at);
