-- Each query is named by the line above it. Parameters are named.

-- name: find_agent
select * from agents where project = :project and name = :agent;

-- name: list_agents
select * from agents where project = :project order by name;

-- name: add_agent
insert into agents (project, name, created_at) values (:project, :agent, :now)
on conflict do nothing;

-- name: add_version
insert into versions (project, agent, number, created_at, status, definition, description,
                      metadata, content_hash, code_sha256)
select :project, :agent, coalesce(max(number), 0) + 1, :now, 'creating', :definition, :description,
       :metadata, :content_hash, :code_sha256
from versions where project = :project and agent = :agent
returning *;

-- name: find_version
select * from versions where project = :project and agent = :agent and number = :number;

-- name: list_versions
select * from versions where project = :project and agent = :agent order by number desc;

-- name: latest_version
select * from versions
where project = :project and agent = :agent and (:status is null or status = :status)
order by number desc limit 1;

-- name: finish_version
update versions set status = :status, launch = :launch, error = :error
where project = :project and agent = :agent and number = :number
returning *;

-- name: unfinished_versions
select * from versions where status = 'creating' order by created_at;

-- name: find_session
select * from sessions
where project = :project and agent = :agent and session_id = :session_id;

-- name: add_session
insert into sessions (project, agent, session_id, number, owner, status, created_at,
                      last_accessed_at, home)
values (:project, :agent, :session_id, :number, :owner, :status, :created_at,
        :last_accessed_at, :home)
on conflict do nothing;

-- name: touch_session
update sessions set last_accessed_at = :at, status = coalesce(:status, status)
where project = :project and agent = :agent and session_id = :session_id;

-- name: list_sessions
select * from sessions
where project = :project and agent = :agent and (:owner is null or owner = :owner)
order by last_accessed_at desc, session_id;

-- name: settle_sessions
update sessions set status = 'idle' where status in ('active', 'creating');
