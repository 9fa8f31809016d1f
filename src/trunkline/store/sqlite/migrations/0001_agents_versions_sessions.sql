-- One row per agent: a name that versions hang on.
create table agents (
    project    text not null,
    name       text not null,
    created_at text not null,           -- RFC 3339, UTC
    primary key (project, name)
) strict;

-- One row per immutable version of an agent.
create table versions (
    project      text not null,
    agent        text not null,
    number       integer not null,      -- 1, 2, 3, ...; clients see it as text
    created_at   text not null,
    status       text not null,         -- creating, active, failed
    definition   text not null,         -- JSON: the hosted definition
    description  text,
    metadata     text not null,         -- JSON object of strings
    content_hash text not null,         -- SHA-256 of definition and code
    code_sha256  text not null,
    error        text,                  -- why the build failed
    launch       text,                  -- JSON: how the runtime starts it
    primary key (project, agent, number),
    foreign key (project, agent) references agents (project, name)
) strict;

-- One row per session: who owns it, which version it runs, when it was last used.
create table sessions (
    project          text not null,
    agent            text not null,
    session_id       text not null,
    number           integer not null,  -- the version it was bound to when it was created
    owner            text not null,     -- issuer|subject of its creator
    status           text not null,     -- creating, active, idle, failed
    created_at       text not null,
    last_accessed_at text not null,
    home             text not null,     -- its directory under the state directory's sessions
    primary key (project, agent, session_id)
) strict;
create index sessions_by_use on sessions (project, agent, last_accessed_at desc);
