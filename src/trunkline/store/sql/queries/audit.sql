-- name: add_audit
insert into audit (entry_id, at, project, agent, session_id, action, status, identity, acting_for,
                   credential, address, request_id)
values (:entry_id, :at, :project, :agent, :session_id, :action, :status, :identity, :acting_for,
        :credential, :address, :request_id)
on conflict do nothing;

-- name: list_audit
select * from audit
where project = :project and entry_id < :before
  and (cast(:agent as text) is null or agent = :agent)
  and (cast(:session_id as text) is null or session_id = :session_id)
  and (cast(:identity as text) is null or identity = :identity)
  and (cast(:action as text) is null or action = :action)
order by entry_id desc limit :limit;

-- name: list_all_audit
select * from audit
where entry_id < :before
  and (cast(:agent as text) is null or agent = :agent)
  and (cast(:session_id as text) is null or session_id = :session_id)
  and (cast(:identity as text) is null or identity = :identity)
  and (cast(:action as text) is null or action = :action)
order by entry_id desc limit :limit;

-- name: forget_audit
delete from audit where entry_id < :before;
