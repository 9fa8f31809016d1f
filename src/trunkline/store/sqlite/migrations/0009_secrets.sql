-- A project's secrets, each encrypted.
create table secrets (
    project    text not null,
    name       text not null,
    sealed     text not null,              -- the value, encrypted with a key that isn't here
    updated_at text not null,              -- RFC 3339, UTC
    updated_by text not null,              -- issuer|subject
    primary key (project, name)
) strict;
