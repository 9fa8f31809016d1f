"""What lies together in a heap that is to be forked."""

import json
import subprocess
import sys
import textwrap

from trunkline.runtimes.process.sandbox.inside import density

#: Objects of many sizes, of which a few are gone again; and how many pages those that are
#: made afterwards lie on.
PROGRAM = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("density", sys.argv[1])
    density = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(density)
    sizes = [*range(40, 500, 20), *range(520, 1000, 60)]
    many = [bytes(size) for _ in range(400) for size in sizes]
    del many[::37]
    if sys.argv[2] == "taken":
        density.take_free_places()
    made = [bytes(size) for _ in range(5) for size in sizes]
    print(len({id(each) // 4096 for each in made}))
"""


def pages(what: str) -> int:
    assert density.__file__ is not None
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(PROGRAM), density.__file__, what],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def test_what_comes_after_it_lies_together() -> None:
    assert pages("taken") < pages("left") / 2


#: Functions among much else, of which a few are run; where the code is that was run, before and
#: after, and what the functions say.
GATHERING = """
    import importlib.util, json, sys, textwrap
    spec = importlib.util.spec_from_file_location("density", sys.argv[1])
    density = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(density)
    others = []
    for number in range(400):
        source = f'''
            def one(base, *, by={number}):
                def inner(value):
                    return [value + each for each in range(base)]
                def unused():
                    pass
                yield from inner(by)
        '''
        exec(textwrap.dedent(source))
        others.append([bytes(range(200)) for _ in range(20)])
        others.append(one)
    functions = [each for each in others if callable(each)]
    chosen, unchosen = functions[::20], functions[1::20]
    closure = lambda: chosen
    code = [*(each.__code__ for each in chosen), closure.__code__]
    inner = [each.co_consts[1] for each in code[:-1]]
    run = {id(each) for each in (*code, *inner)}

    def pages():
        found = [each.__code__ for each in chosen] + [each.__code__.co_consts[1] for each in chosen]
        return len({id(each) // 4096 for each in found})

    before, said = pages(), [list(each(3)) for each in chosen]
    kept = [each.__code__ for each in unchosen], [each.co_consts[2] for each in code[:-1]]
    density.gather_code(run)
    print(json.dumps({
        "pages": [before, pages()],
        "moved": all(id(each.__code__) not in run for each in (*chosen, closure)),
        "moved inside": all(id(each.__code__.co_consts[1]) not in run for each in chosen),
        "same": [each.__code__ for each in (*chosen, closure)] == code,
        "said": [list(each(3)) for each in chosen] == said and closure() is chosen,
        "others": all(each.__code__ is code for each, code in zip(unchosen, kept[0])),
        "others inside": all(
            each.__code__.co_consts[2] is code for each, code in zip(chosen, kept[1])
        ),
    }))
"""


def test_code_that_is_run_is_moved_together_and_says_what_it_said() -> None:
    assert density.__file__ is not None
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(GATHERING), density.__file__],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    before, after = found.pop("pages")
    assert after < before / 2
    assert all(found.values()), found
