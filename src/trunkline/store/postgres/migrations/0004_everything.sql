-- The first schema that was ever kept in PostgreSQL; its number is the same one's in SQLite.
-- Texts compare by their bytes, as in SQLite: lists are in the order of times and names.

-- One row per agent: a name that versions hang on.
create table agents (
    project     text collate "C" not null,
    name        text collate "C" not null,
    created_at  text collate "C" not null,          -- RFC 3339, UTC
    is_enabled  bigint not null default 1,
    endpoint    text collate "C" not null default '{}',  -- JSON, as it was sent
    card        text collate "C",                   -- JSON, as it was sent
    is_deleting bigint not null default 0,
    next_number bigint not null default 0,          -- the last one given
    next_seq    bigint not null default 0,          -- the last one given
    primary key (project, name)
);
create index agents_by_age on agents (project, created_at, name);

-- One row per immutable version of an agent.
create table versions (
    project      text collate "C" not null,
    agent        text collate "C" not null,
    version      text collate "C" not null,         -- 1, 2, 3, ... or draft-MILLISECONDS
    seq          bigint not null,                   -- the order they were made in, drafts included
    is_draft     bigint not null,
    created_at   text collate "C" not null,         -- RFC 3339, UTC
    status       text collate "C" not null,         -- creating, active, failed, deleting
    definition   text collate "C" not null,         -- JSON: the hosted definition
    description  text collate "C",
    metadata     text collate "C" not null,         -- JSON object of strings
    content_hash text collate "C" not null,         -- SHA-256 of definition and code
    code_sha256  text collate "C" not null,         -- empty for an image
    builder      text collate "C" not null,         -- the node that builds it
    error        text collate "C",                  -- why the build failed
    error_code   text collate "C",                  -- the same in the contract's word
    launch       text collate "C",                  -- JSON: how the runtime starts it
    primary key (project, agent, version),
    foreign key (project, agent) references agents (project, name)
);
create unique index versions_by_age on versions (project, agent, seq);
create index versions_by_status on versions (status);

-- One row per session: who owns it, which version it runs, who runs it, when it was last used.
create table sessions (
    project          text collate "C" not null,
    agent            text collate "C" not null,
    session_id       text collate "C" not null,
    version          text collate "C" not null,     -- the version it is bound to
    owner            text collate "C" not null,     -- issuer|subject of its creator
    status           text collate "C" not null,     -- creating, active, idle, failed, deleting
    created_at       text collate "C" not null,
    last_accessed_at text collate "C" not null,
    expires_at       text collate "C" not null,
    stopped_at       text collate "C",
    home             text collate "C" not null,     -- its directory under the state directory's sessions
    holder           text collate "C",              -- the node that runs it
    address          text collate "C",              -- JSON: where its agent listens
    wanted           text collate "C",              -- stop or delete: what another node asks of the holder
    primary key (project, agent, session_id)
);
create index sessions_by_age on sessions (project, agent, created_at, session_id);
create index sessions_by_owner on sessions (project, agent, owner, created_at, session_id);
create index sessions_by_holder on sessions (holder) where holder is not null;
create index sessions_by_expiry on sessions (expires_at) where holder is null;
create index sessions_by_status on sessions (status);
create index sessions_held on sessions (project) where holder is not null;

-- The processes that share this store, and when each was last heard of.
create table nodes (
    node         text collate "C" not null primary key,
    heartbeat_at text collate "C" not null
);

-- Which nodes have connections to sessions that others run.
create table session_uses (
    project    text collate "C" not null,
    agent      text collate "C" not null,
    session_id text collate "C" not null,
    node       text collate "C" not null,
    primary key (project, agent, session_id, node)
);

-- One row per conversation: whose it is, and which session its turns go to.
create table conversations (
    project         text collate "C" not null,
    agent           text collate "C" not null,
    conversation_id text collate "C" not null,
    owner           text collate "C" not null,      -- issuer|subject of its creator
    created_at      text collate "C" not null,      -- RFC 3339, UTC
    metadata        text collate "C" not null,      -- JSON object of strings
    session_id      text collate "C",               -- the session that had the last turn
    next_seq        bigint not null default 0,
    primary key (project, agent, conversation_id)
);

-- What was said in it, in order.
create table conversation_items (
    project         text collate "C" not null,
    agent           text collate "C" not null,
    conversation_id text collate "C" not null,
    seq             bigint not null,
    item_id         text collate "C" not null,
    item            text collate "C" not null,      -- JSON, as it was sent, with its id
    primary key (project, agent, conversation_id, seq)
);
create unique index conversation_items_by_id
    on conversation_items (project, agent, conversation_id, item_id);

-- Which session an agent's response came from: later calls about it go there.
create table responses (
    project     text collate "C" not null,
    agent       text collate "C" not null,
    response_id text collate "C" not null,
    owner       text collate "C" not null,
    session_id  text collate "C" not null,
    created_at  text collate "C" not null,
    primary key (project, agent, response_id)
);
create index responses_by_session on responses (project, agent, session_id);
