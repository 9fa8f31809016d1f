-- name: add_conversation
insert into conversations (project, agent, conversation_id, owner, created_at, metadata)
values (:project, :agent, :conversation_id, :owner, :now, :metadata)
returning *;

-- name: find_conversation
select * from conversations
where project = :project and agent = :agent and conversation_id = :conversation_id;

-- name: update_conversation
update conversations set metadata = coalesce(cast(:metadata as text), metadata),
                         session_id = coalesce(cast(:session_id as text), session_id)
where project = :project and agent = :agent and conversation_id = :conversation_id
returning *;

-- name: take_items
update conversations set next_seq = next_seq + :count
where project = :project and agent = :agent and conversation_id = :conversation_id
returning next_seq;

-- name: add_item
insert into conversation_items (project, agent, conversation_id, seq, item_id, item)
values (:project, :agent, :conversation_id, :seq, :item_id, :item)
on conflict do nothing;

-- name: find_item
select * from conversation_items
where project = :project and agent = :agent and conversation_id = :conversation_id
  and item_id = :item_id;

-- name: list_items
select * from conversation_items
where project = :project and agent = :agent and conversation_id = :conversation_id
  and seq {after} :after_at and seq {before} :before_at
order by seq {order} limit :limit;

-- name: remove_item
delete from conversation_items
where project = :project and agent = :agent and conversation_id = :conversation_id
  and item_id = :item_id
returning item_id;

-- name: remove_items
delete from conversation_items
where project = :project and agent = :agent and conversation_id = :conversation_id;

-- name: remove_conversation
delete from conversations
where project = :project and agent = :agent and conversation_id = :conversation_id;

-- name: remove_agent_items
delete from conversation_items where project = :project and agent = :agent;

-- name: remove_agent_conversations
delete from conversations where project = :project and agent = :agent;

-- name: remove_agent_responses
delete from responses where project = :project and agent = :agent;

-- name: remove_session_responses
delete from responses
where project = :project and agent = :agent and session_id = :session_id;

-- name: add_response
insert into responses (project, agent, response_id, owner, session_id, created_at)
values (:project, :agent, :response_id, :owner, :session_id, :now)
on conflict do nothing;

-- name: find_response
select * from responses
where project = :project and agent = :agent and response_id = :response_id;
