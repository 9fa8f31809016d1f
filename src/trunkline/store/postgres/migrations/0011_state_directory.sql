-- Which state directory the rest is about: homes, logs, code and keys lie there.
create table state_directory (
    is_one bigint not null primary key check (is_one = 1),   -- there is one row at most
    id     text collate "C" not null                         -- what the file `id` in it says
);
