-- name: next_version
update agents set next_number = next_number + :is_numbered, next_seq = next_seq + 1
where project = :project and name = :agent
returning next_number, next_seq;

-- name: count_versions
select count(*) as n from versions where project = :project and agent = :agent;

-- name: add_version
insert into versions (project, agent, version, seq, is_draft, created_at, status, definition,
                      description, metadata, content_hash, code_sha256, builder)
values (:project, :agent, :version, :seq, :is_draft, :now, 'creating', :definition,
        :description, :metadata, :content_hash, :code_sha256, :builder)
returning *;

-- name: find_version
select * from versions
where project = :project and agent = :agent and version = :version and status <> 'deleting';

-- name: list_versions
select * from versions
where project = :project and agent = :agent and status <> 'deleting'
  and (is_draft = 0 or :with_drafts = 1)
  and seq {after} :after_at and seq {before} :before_at
order by seq {order} limit :limit;

-- name: latest_version
select * from versions
where project = :project and agent = :agent and is_draft = 0 and status <> 'deleting'
  and (cast(:status as text) is null or status = :status)
order by seq desc limit 1;

-- name: finish_version
update versions set status = :status, launch = :launch, error = :error, error_code = :error_code
where project = :project and agent = :agent and version = :version and status = 'creating'
  and builder = :builder
returning *;

-- name: unfinished_versions
select * from versions where status = 'creating' order by created_at, seq;

-- name: claim_build
update versions set builder = :node
where project = :project and agent = :agent and version = :version and status = 'creating'
  and (builder = :node or not exists (select 1 from nodes where nodes.node = versions.builder))
  and exists (select 1 from nodes where nodes.node = :node)
returning *;

-- name: mark_version_deleting
update versions set status = 'deleting', deleter = :node
where project = :project and agent = :agent and version = :version and status <> 'deleting'
returning *;

-- name: deleting_versions
select * from versions where status = 'deleting' order by created_at, seq;

-- name: claim_version_deletion
update versions set deleter = :node
where project = :project and agent = :agent and version = :version and status = 'deleting'
  and (deleter is null or deleter = :node
       or not exists (select 1 from nodes where nodes.node = versions.deleter))
  and exists (select 1 from nodes where nodes.node = :node)
returning version;

-- name: remove_version
delete from versions
where project = :project and agent = :agent and version = :version and status = 'deleting';
