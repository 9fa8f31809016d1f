import pytest

from trunkline.agentserver._telemetry_config import Collector, read

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def test_nothing_set_asks_for_nothing():
    config = read({"PATH": "/bin", "OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "junk"})
    assert not config.is_on
    assert config.problems == ()


@pytest.mark.parametrize("base", ["http://collector:4318", "http://collector:4318/"])
def test_the_general_endpoint_gets_the_signals_paths(base):
    config = read({"OTEL_EXPORTER_OTLP_ENDPOINT": base})
    assert config.traces.collector == Collector(
        url="http://collector:4318/v1/traces", timeout_s=10, compression="none"
    )
    assert config.metrics.collector is not None
    assert config.metrics.collector.url == "http://collector:4318/v1/metrics"
    assert config.problems == ()


def test_a_signals_own_endpoint_is_taken_as_it_is_and_asks_for_that_signal_alone():
    config = read({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/in?x=1"})
    assert config.traces.collector is not None
    assert config.traces.collector.url == "https://c/in?x=1"
    assert not config.metrics.is_on
    both = read({**BASE, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://other/m"})
    assert both.traces.collector is not None
    assert both.traces.collector.url == "http://collector:4318/v1/traces"
    assert both.metrics.collector is not None
    assert both.metrics.collector.url == "http://other/m"


def test_an_empty_variable_counts_as_unset():
    assert not read({"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_TRACES_EXPORTER": " "}).is_on


@pytest.mark.parametrize("value", ["true", "TRUE", " True "])
def test_disabling_turns_everything_off_and_keeps_quiet(value):
    config = read({**BASE, "OTEL_SDK_DISABLED": value, "OTEL_TRACES_EXPORTER": "junk"})
    assert config.is_disabled
    assert not config.is_on
    assert config.problems == ()


@pytest.mark.parametrize("value", ["false", "1", ""])
def test_only_true_disables(value):
    assert read({**BASE, "OTEL_SDK_DISABLED": value}).is_on


@pytest.mark.parametrize(
    ("value", "is_sent", "is_printed"),
    [
        ("otlp", True, False),
        ("console", False, True),
        ("otlp, Console", True, True),
        ("none", False, False),
    ],
)
def test_an_exporter_that_is_named_wins_over_the_endpoint(value, is_sent, is_printed):
    config = read({**BASE, "OTEL_TRACES_EXPORTER": value})
    assert (config.traces.collector is not None) == is_sent
    assert config.traces.to_console == is_printed
    assert config.metrics.is_on
    assert config.problems == ()


def test_otlp_by_name_needs_no_endpoint():
    config = read({"OTEL_METRICS_EXPORTER": "otlp"})
    assert config.metrics.collector is not None
    assert config.metrics.collector.url == "http://localhost:4318/v1/metrics"
    assert not config.traces.is_on


def test_numbers_and_how_it_is_sent():
    config = read(
        {
            **BASE,
            "OTEL_BSP_SCHEDULE_DELAY": "250",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_METRIC_EXPORT_TIMEOUT": "900",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5",
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "3",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a=b, x=1",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.5",
            "OTEL_RESOURCE_ATTRIBUTES": "a=b,c=d%20e",
        }
    )
    assert config.problems == ()
    assert config.is_sampler_usable
    assert config.span_delay_ms == 250
    assert config.metric_interval_ms == 1000
    assert config.metric_timeout_ms == 900
    # A batch can't be larger than the queue; the SDK refuses that.
    assert (config.span_queue_size, config.span_batch_size) == (100, 100)
    assert config.traces.collector is not None
    assert config.metrics.collector is not None
    assert (config.traces.collector.timeout_s, config.metrics.collector.timeout_s) == (2.5, 3)
    assert config.traces.collector.compression == "gzip"


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "soon", "5000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1.5", "2048"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0", "512"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1", "60000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "inf", "60000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "nan", "30000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "x", "10"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "none"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_always_on"),
    ],
)
def test_a_wrong_value_is_named_and_the_default_used(name, value, default):
    config = read({**BASE, name: value})
    assert config.is_on
    (problem,) = config.problems
    assert problem.startswith(name)
    assert repr(value) in problem
    assert f"{default} is used" in problem


@pytest.mark.parametrize("ratio", ["half", "1.5", "-1", "nan"])
def test_a_ratio_that_is_none(ratio):
    config = read(
        {
            **BASE,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": ratio,
        }
    )
    assert not config.is_sampler_usable
    assert [p.split()[0] for p in config.problems] == ["OTEL_TRACES_SAMPLER_ARG"]


@pytest.mark.parametrize(
    "url", ["collector:4317", "ftp://collector", "http://", "http://c:99999", "http://[c"]
)
def test_an_endpoint_that_is_none_turns_off_what_would_go_there(url):
    config = read({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url, **BASE})
    assert not config.traces.is_on
    assert config.metrics.is_on
    (problem,) = config.problems
    assert problem.startswith("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL")


@pytest.mark.parametrize("protocol", ["grpc", "http/json"])
def test_a_protocol_that_is_not_spoken(protocol):
    config = read({**BASE, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    assert not config.is_on
    assert len(config.problems) == 2
    assert all(p.startswith(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r}") for p in config.problems)
    own = read({**BASE, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol})
    assert not own.traces.is_on
    assert own.metrics.is_on


def test_an_exporter_nobody_knows():
    config = read({"OTEL_METRICS_EXPORTER": "prometheus"})
    assert not config.is_on
    assert config.problems == (
        "OTEL_METRICS_EXPORTER: 'prometheus' is not known here; otlp, console or none is needed",
    )


@pytest.mark.parametrize("value", ["Bearer hunter2", "authorization=hünter2", "=hunter2"])
def test_headers_that_are_none_are_never_shown(value):
    config = read({**BASE, "OTEL_EXPORTER_OTLP_HEADERS": value})
    assert not config.is_on
    assert config.problems == (
        "OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs with commas between them",
    )


def test_resource_attributes_that_are_none():
    config = read({**BASE, "OTEL_RESOURCE_ATTRIBUTES": "deployment"})
    assert config.is_on
    assert config.problems == (
        "OTEL_RESOURCE_ATTRIBUTES must be name=value pairs with commas between them",
    )
