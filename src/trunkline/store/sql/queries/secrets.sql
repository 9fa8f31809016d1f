-- name: put_secret
insert into secrets (project, name, sealed, updated_at, updated_by)
values (:project, :secret, :sealed, :updated_at, :updated_by)
on conflict (project, name) do update
set sealed = excluded.sealed, updated_at = excluded.updated_at, updated_by = excluded.updated_by;

-- name: list_secrets
select * from secrets where project = :project order by name;

-- name: find_secret
select * from secrets where project = :project and name = :secret;

-- name: remove_secret
delete from secrets where project = :project and name = :secret
returning name;
