-- name: add_api_key
insert into api_keys (key_id, project, name, digest, grants, created_by, created_at, expires_at)
values (:key_id, :project, :label, :digest, :grants, :created_by, :created_at, :expires_at);

-- name: find_api_key
select * from api_keys where key_id = :key_id;

-- name: list_api_keys
select * from api_keys where project = :project order by created_at desc, key_id;

-- name: remove_api_key
delete from api_keys where project = :project and key_id = :key_id
returning key_id;

-- name: add_revocation
insert into revocations (issuer, subject, revoked_at, revoked_by)
values (:issuer, :subject, :revoked_at, :revoked_by)
on conflict (issuer, subject) do update
set revoked_at = excluded.revoked_at, revoked_by = excluded.revoked_by;

-- name: list_revocations
select * from revocations order by revoked_at desc, issuer, subject;

-- name: forget_revocations
delete from revocations where revoked_at < :before;

-- name: add_renewal
insert into renewals (project, agent, session_id, identity, expires_at)
values (:project, :agent, :session_id, :identity, :expires_at)
on conflict (project, agent, session_id, identity) do update set expires_at = excluded.expires_at;

-- name: find_renewal
select expires_at from renewals
where project = :project and agent = :agent and session_id = :session_id and identity = :identity;

-- name: forget_renewals
delete from renewals where expires_at < :before;
