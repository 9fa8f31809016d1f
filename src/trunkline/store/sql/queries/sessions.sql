-- name: find_session
select * from sessions
where project = :project and agent = :agent and session_id = :session_id;

-- name: add_session
insert into sessions (project, agent, session_id, version, owner, status, created_at,
                      last_accessed_at, expires_at, home)
values (:project, :agent, :session_id, :version, :owner, :status, :created_at,
        :last_accessed_at, :expires_at, :home)
on conflict do nothing
returning *;

-- name: list_sessions
select * from sessions
where project = :project and agent = :agent and status <> 'deleting'
  and (cast(:owner as text) is null or owner = :owner)
  and (created_at, session_id) {after} (:after_at, :after_id)
  and (created_at, session_id) {before} (:before_at, :before_id)
order by created_at {order}, session_id {order} limit :limit;

-- name: count_kept
select count(*) as n from sessions
where project = :project and agent = :agent and status <> 'deleting'
  and (cast(:version as text) is null or version = :version);

-- name: count_running
select count(*) as n from sessions
where project = :project and agent = :agent and holder is not null;

-- name: touch_session
update sessions set last_accessed_at = :at, expires_at = :expires_at
where project = :project and agent = :agent and session_id = :session_id;

-- name: count_held
select count(*) as n from sessions where project = :project and holder is not null;

-- name: claim_session
update sessions set holder = :node, address = null
where project = :project and agent = :agent and session_id = :session_id
returning *;

-- name: start_session
update sessions set address = :address, status = 'active'
where project = :project and agent = :agent and session_id = :session_id and holder = :node
  and status <> 'deleting'
returning session_id;

-- name: release_session
update sessions
set holder = null, address = null, stopped_at = :at,
    status = case status when 'deleting' then status else :status end
where project = :project and agent = :agent and session_id = :session_id and holder = :node;

-- name: settle_session
update sessions set status = :status
where project = :project and agent = :agent and session_id = :session_id and holder is null
  and status = 'creating';

-- name: mark_session_deleting
update sessions set status = 'deleting'
where project = :project and agent = :agent and session_id = :session_id
  and (cast(:home as text) is null or home = :home)
  and (cast(:expired_at as text) is null
       or status <> 'deleting' and holder is null and expires_at <= :expired_at)
returning *;

-- name: mark_sessions_deleting
update sessions set status = 'deleting'
where project = :project and agent = :agent and (cast(:version as text) is null
                                                 or version = :version);

-- name: deleting_sessions
select * from sessions
where status = 'deleting'
  and (cast(:project as text) is null or project = :project)
  and (cast(:agent as text) is null or agent = :agent)
  and (cast(:version as text) is null or version = :version)
order by created_at;

-- name: remove_session
delete from sessions
where project = :project and agent = :agent and session_id = :session_id and home = :home
  and status = 'deleting'
returning owner;

-- name: add_past_session
insert into past_sessions (project, agent, session_id, owner, ended_at)
values (:project, :agent, :session_id, :owner, :ended_at)
on conflict (project, agent, session_id, owner) do update set ended_at = excluded.ended_at;

-- name: find_past_session
select ended_at from past_sessions
where project = :project and agent = :agent and session_id = :session_id and owner = :owner;

-- name: forget_past_sessions
delete from past_sessions where ended_at < :before;

-- name: expire_sessions
update sessions set status = 'deleting'
where holder is null and expires_at <= :now and status <> 'deleting'
returning *;
