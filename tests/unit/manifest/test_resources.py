"""Quantities of processors and memory."""

import pytest

from trunkline.manifest.resources import cpu_fault, memory_fault, parse_cpu, parse_memory_bytes


@pytest.mark.parametrize(
    ("text", "cores"), [("1", 1.0), ("0.25", 0.25), ("500m", 0.5), ("4", 4.0), ("1500m", 1.5)]
)
def test_cpu(text: str, cores: float) -> None:
    assert parse_cpu(text) == cores
    assert cpu_fault(text) is None


@pytest.mark.parametrize("text", ["0", "0.2", "4.1", "249m", "99999m"])
def test_cpu_out_of_range(text: str) -> None:
    assert "out of range" in str(cpu_fault(text))


@pytest.mark.parametrize("text", ["", "1.", ".5", "-1", "1 ", "one", "1M", "1" * 50, "1\n"])
def test_no_cpu(text: str) -> None:
    assert "is not a number of processors" in str(cpu_fault(text))
    with pytest.raises(ValueError, match="processors"):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2Gi", 2 * 1024**3),
        ("512Mi", 512 * 1024**2),
        ("0.5Gi", 512 * 1024**2),
        ("1G", 1000**3),
        ("1048576Ki", 1024**3),
        ("1073741824", 1024**3),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert parse_memory_bytes(text) == size
    assert memory_fault(text) is None


@pytest.mark.parametrize("text", ["511Mi", "9Gi", "0", "1Ti", "512"])
def test_memory_out_of_range(text: str) -> None:
    assert "out of range" in str(memory_fault(text))


@pytest.mark.parametrize(
    ("text", "meant"),
    [("2gb", "2Gi"), ("2 GB", "2Gi"), ("512m", "512Mi"), ("2GiB", "2Gi"), ("lots", None)],
)
def test_no_memory(text: str, meant: str | None) -> None:
    fault = str(memory_fault(text))
    assert "is not an amount of memory" in fault
    assert ("did you mean" in fault) == (meant is not None)
    assert meant is None or fault.endswith(f"did you mean {meant}?")
