-- A project's secrets, each encrypted.
create table secrets (
    project    text collate "C" not null,
    name       text collate "C" not null,
    sealed     text collate "C" not null,              -- the value, encrypted with a key that isn't here
    updated_at text collate "C" not null,              -- RFC 3339, UTC
    updated_by text collate "C" not null,              -- issuer|subject
    primary key (project, name)
);
