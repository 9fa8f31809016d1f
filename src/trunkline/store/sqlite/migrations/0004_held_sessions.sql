-- How many sessions of a project run is asked at each start.
create index sessions_held on sessions (project) where holder is not null;
