-- name: add_ticket
insert into tickets (digest, project, agent, session_id, origin, caller, expires_at)
values (:digest, :project, :agent, :session_id, :origin, :caller, :expires_at);

-- name: take_ticket
delete from tickets where digest = :digest
returning *;

-- name: forget_tickets
delete from tickets where expires_at < :before;
