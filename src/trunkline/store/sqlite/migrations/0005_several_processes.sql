alter table nodes add column url text not null default '';    -- where the others reach it
alter table agents add column deleter text;                    -- the node that removes it
alter table versions add column deleter text;                  -- the node that removes it
-- What a node wants of another's session it asks that node for, over HTTP.
drop table session_uses;
alter table sessions drop column wanted;
