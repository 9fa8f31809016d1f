"""Sessions' files, described."""

from trunkline.platform.openapi.operation import (
    ENDPOINT,
    Operation,
    Resource,
    answer,
    array,
    boolean,
    flag_in_query,
    in_query,
    integer,
    json_answer,
    json_body,
    obj,
    schema,
    text,
)

_FILES = f"{ENDPOINT}/sessions/{{session}}/files"
_PATH = in_query(
    "path",
    "Where, from the session's home, with or without a slash before it. A path that leads out of "
    "the home, or through a link, is refused.",
    text(minLength=1),
    is_required=True,
    example="notes.txt",
)
_REFUSALS = (403, 409)

RESOURCE = Resource(
    tag="files",
    says="What is in a session's home, whether it runs or not.",
    operations=(
        Operation(
            method="PUT",
            path=f"{_FILES}/content",
            name="upload_file",
            says="Puts the body, as it is, at the path. A file there is replaced in one step; "
            "folders above it are made.",
            query=(_PATH,),
            body={"required": False, "content": {"application/octet-stream": {}}},
            answers={
                201: json_answer(
                    "It is there.",
                    obj("What was put", path=text(), bytes_written=integer(minimum=0)),
                )
            },
            refusals=(*_REFUSALS, 413),
        ),
        Operation(
            method="GET",
            path=f"{_FILES}/content",
            name="download_file",
            says="The file at the path, as it is.",
            query=(_PATH,),
            answers={200: answer("Its bytes.", {"application/octet-stream": {}})},
            refusals=_REFUSALS,
        ),
        Operation(
            method="GET",
            path=f"{_FILES}/stat",
            name="stat_file",
            says="What is known of what is at the path.",
            query=(_PATH,),
            answers={200: json_answer("The entry.", schema("FileEntry"))},
            refusals=_REFUSALS,
        ),
        Operation(
            method="POST",
            path=f"{_FILES}/mkdir",
            name="make_folder",
            says="Makes a folder. Those above it are made as well.",
            body=json_body(obj("Which", path=text(minLength=1))),
            answers={201: json_answer("It is there.", obj("Which", path=text()))},
            refusals=(*_REFUSALS, 413),
        ),
        Operation(
            method="GET",
            path=_FILES,
            name="list_files",
            says="What is in a folder.",
            query=(
                in_query("path", "Which; the home if it is left out.", text()),
                in_query("limit", "How many.", integer(minimum=1, maximum=1000, default=1000)),
                in_query("order", "By name.", text(enum=["asc", "desc"], default="asc")),
                in_query("after", "A name: the page begins behind it.", text(maxLength=765)),
                in_query("before", "A name: the page ends before it.", text(maxLength=765)),
                in_query("pagination_token", "The same as `after`.", text(maxLength=765)),
            ),
            answers={200: json_answer("The entries.", schema("FileList"))},
            refusals=_REFUSALS,
        ),
        Operation(
            method="DELETE",
            path=_FILES,
            name="delete_file",
            says="Removes a file, or an empty folder.",
            query=(_PATH, flag_in_query("recursive", "A folder with all that is in it.")),
            answers={204: answer("It is gone.")},
            refusals=_REFUSALS,
        ),
    ),
    schemas={
        "FileEntry": obj(
            "A file or folder",
            name=text(),
            path=text(),
            size=integer("In bytes", minimum=0),
            is_dir=boolean("Whether it is a folder"),
            is_directory=boolean("The same"),
            mode=integer("Permission bits", minimum=0),
            modified_time=integer("In Unix seconds"),
        ),
        "FileList": obj(
            "A page of a folder",
            object={"const": "list"},
            path=text("The folder"),
            entries=array(schema("FileEntry")),
            has_more=boolean(),
            optional={
                "first_id": text(),
                "last_id": text("While there is more: what the next page comes `after`"),
                "pagination_token": text("The same as `last_id`"),
            },
        ),
    },
)
