"""What the Pipecat sample deploys: all that its modules import, and nothing of its own twice."""

import ast
import importlib.util
import sys
from pathlib import Path

SAMPLES = Path(__file__).parents[3] / "samples"
#: What its environment has besides the standard library.
INSTALLED = {"hibari", "loguru", "moonshine_voice", "numpy", "pipecat", "starlette", "trunkline"}


def test_everything_it_imports_is_deployed(tmp_path: Path) -> None:
    # Not by its name: another sample has a module of the same.
    spec = importlib.util.spec_from_file_location(
        "deploy_pipecat", SAMPLES / "pipecat" / "deploy.py"
    )
    assert spec is not None
    assert spec.loader is not None
    deploy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(deploy)
    deploy.gather(tmp_path)
    sources = sorted(tmp_path.rglob("*.py"))
    assert (tmp_path / "agent.yaml").is_file()
    assert (tmp_path / "requirements.txt").is_file()
    deployed = {source.stem for source in sources} | {"engines"}
    imported = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) - INSTALLED <= deployed
    assert deployed - imported <= {
        "__init__",
        "main",
        "hibari",
        "moonshine",
        "interfaces",
        "thread",
    }
