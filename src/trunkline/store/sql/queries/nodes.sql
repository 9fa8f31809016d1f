-- name: set_state_id
insert into state_directory (is_one, id) values (1, :id) on conflict do nothing;

-- name: find_state_id
select id from state_directory;

-- name: add_node
insert into nodes (node, heartbeat_at, url) values (:node, :at, :url)
on conflict (node) do update set heartbeat_at = excluded.heartbeat_at, url = excluded.url;

-- name: heartbeat
update nodes set heartbeat_at = :at where node = :node returning node;

-- name: find_node
select * from nodes where node = :node;

-- name: list_nodes
select * from nodes order by node;

-- name: remove_node
delete from nodes
where node = :node and (cast(:heard_at as text) is null or heartbeat_at = :heard_at)
returning node;

-- name: orphan_holders
select distinct holder from sessions
where holder is not null
  and not exists (select 1 from nodes where nodes.node = sessions.holder);

-- name: release_orphans
update sessions
set holder = null, address = null, stopped_at = last_accessed_at,
    status = case status when 'deleting' then status else 'idle' end
where holder = :node
  and not exists (select 1 from nodes where nodes.node = :node);
