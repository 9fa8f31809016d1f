alter table agents add column is_enabled integer not null default 1;
alter table agents add column endpoint text not null default '{}';  -- JSON, as it was sent
alter table agents add column card text;                            -- JSON, as it was sent
alter table agents add column is_deleting integer not null default 0;
alter table agents add column next_number integer not null default 0;  -- the last one given
alter table agents add column next_seq integer not null default 0;     -- the last one given
update agents set
    next_number = (select coalesce(max(number), 0) from versions
                   where versions.project = agents.project and versions.agent = agents.name),
    next_seq = (select coalesce(max(number), 0) from versions
                where versions.project = agents.project and versions.agent = agents.name);
create index agents_by_age on agents (project, created_at, name);

-- Versions are named by text now: drafts have no number.
create table numbered_versions (
    project      text not null,
    agent        text not null,
    version      text not null,         -- 1, 2, 3, ... or draft-MILLISECONDS
    seq          integer not null,      -- the order they were made in, drafts included
    is_draft     integer not null,
    created_at   text not null,         -- RFC 3339, UTC
    status       text not null,         -- creating, active, failed, deleting
    definition   text not null,         -- JSON: the hosted definition
    description  text,
    metadata     text not null,         -- JSON object of strings
    content_hash text not null,         -- SHA-256 of definition and code
    code_sha256  text not null,         -- empty for an image
    builder      text not null,         -- the node that builds it
    error        text,                  -- why the build failed
    error_code   text,                  -- the same in the contract's word
    launch       text,                  -- JSON: how the runtime starts it
    primary key (project, agent, version),
    foreign key (project, agent) references agents (project, name)
) strict;
insert into numbered_versions
select project, agent, cast(number as text), number, 0, created_at, status, definition,
       description, metadata, content_hash, code_sha256, '', error,
       case status when 'failed' then 'CodeError' end, launch
from versions;
drop table versions;
alter table numbered_versions rename to versions;
create unique index versions_by_age on versions (project, agent, seq);
create index versions_by_status on versions (status);

-- One row per session: who owns it, which version it runs, who runs it, when it was last used.
create table held_sessions (
    project          text not null,
    agent            text not null,
    session_id       text not null,
    version          text not null,     -- the version it is bound to
    owner            text not null,     -- issuer|subject of its creator
    status           text not null,     -- creating, active, idle, failed, deleting
    created_at       text not null,
    last_accessed_at text not null,
    expires_at       text not null,
    stopped_at       text,
    home             text not null,     -- its directory under the state directory's sessions
    holder           text,              -- the node that runs it
    address          text,              -- JSON: where its agent listens
    wanted           text,              -- stop or delete: what another node asks of the holder
    primary key (project, agent, session_id)
) strict;
insert into held_sessions
select project, agent, session_id, cast(number as text), owner,
       case when status in ('active', 'creating') then 'idle' else status end, created_at,
       last_accessed_at,
       strftime('%Y-%m-%dT%H:%M:%S', last_accessed_at, '+30 days') || substr(last_accessed_at, 20),
       null, home, null, null, null
from sessions;
drop table sessions;
alter table held_sessions rename to sessions;
create index sessions_by_age on sessions (project, agent, created_at, session_id);
create index sessions_by_owner on sessions (project, agent, owner, created_at, session_id);
create index sessions_by_holder on sessions (holder) where holder is not null;
create index sessions_by_expiry on sessions (expires_at) where holder is null;
create index sessions_by_status on sessions (status);

-- The processes that share this store, and when each was last heard of.
create table nodes (
    node         text not null primary key,
    heartbeat_at text not null
) strict;

-- Which nodes have connections to sessions that others run.
create table session_uses (
    project    text not null,
    agent      text not null,
    session_id text not null,
    node       text not null,
    primary key (project, agent, session_id, node)
) strict;
