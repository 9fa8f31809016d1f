-- Each query is named by the line above it. Parameters are named, and cast where they may be
-- null. What stands in braces is put in by the program: a direction, never a value. A page lies between two keys; without a
-- cursor they are the lowest or the highest there can be, so that an index serves them all.

-- name: ping
select 1 as n;

-- name: find_agent
select * from agents where project = :project and name = :agent and is_deleting = 0;

-- name: find_agent_row
select * from agents where project = :project and name = :agent;

-- name: list_agents
select * from agents
where project = :project and is_deleting = 0
  and (created_at, name) {after} (:after_at, :after_id)
  and (created_at, name) {before} (:before_at, :before_id)
order by created_at {order}, name {order} limit :limit;

-- name: add_agent
insert into agents (project, name, created_at) values (:project, :agent, :now)
on conflict do nothing;

-- name: update_agent
update agents set is_enabled = coalesce(cast(:is_enabled as bigint), is_enabled),
                  endpoint = coalesce(cast(:endpoint as text), endpoint),
                  card = coalesce(cast(:card as text), card)
where project = :project and name = :agent and is_deleting = 0
returning *;

-- name: mark_agent_deleting
update agents set is_deleting = 1, deleter = :node
where project = :project and name = :agent and is_deleting = 0
returning *;

-- name: deleting_agents
select * from agents where is_deleting = 1 order by created_at;

-- name: claim_agent_deletion
update agents set deleter = :node
where project = :project and name = :agent and is_deleting = 1
  and (deleter is null or deleter = :node
       or not exists (select 1 from nodes where nodes.node = agents.deleter))
  and exists (select 1 from nodes where nodes.node = :node)
returning name;

-- name: remove_agent_sessions
delete from sessions where project = :project and agent = :agent;

-- name: remove_agent_versions
delete from versions where project = :project and agent = :agent;

-- name: remove_agent
delete from agents where project = :project and name = :agent and is_deleting = 1;
