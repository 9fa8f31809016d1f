-- One row per conversation: whose it is, and which session its turns go to.
create table conversations (
    project         text not null,
    agent           text not null,
    conversation_id text not null,
    owner           text not null,      -- issuer|subject of its creator
    created_at      text not null,      -- RFC 3339, UTC
    metadata        text not null,      -- JSON object of strings
    session_id      text,               -- the session that had the last turn
    next_seq        integer not null default 0,
    primary key (project, agent, conversation_id)
) strict;

-- What was said in it, in order.
create table conversation_items (
    project         text not null,
    agent           text not null,
    conversation_id text not null,
    seq             integer not null,
    item_id         text not null,
    item            text not null,      -- JSON, as it was sent, with its id
    primary key (project, agent, conversation_id, seq)
) strict;
create unique index conversation_items_by_id
    on conversation_items (project, agent, conversation_id, item_id);

-- Which session an agent's response came from: later calls about it go there.
create table responses (
    project     text not null,
    agent       text not null,
    response_id text not null,
    owner       text not null,
    session_id  text not null,
    created_at  text not null,
    primary key (project, agent, response_id)
) strict;
create index responses_by_session on responses (project, agent, session_id);
