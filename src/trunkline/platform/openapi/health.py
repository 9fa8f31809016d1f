"""The platform itself, described."""

from trunkline.platform.openapi.operation import Operation, Resource, answer, json_answer, obj, text

RESOURCE = Resource(
    tag="platform",
    says="How the platform is, for those who run it. None of these needs a token.",
    operations=(
        Operation(
            method="GET",
            path="/healthz",
            name="is_alive",
            says="Whether the process is alive.",
            answers={200: json_answer("It is.", obj("How it is", status={"const": "alive"}))},
            needs_token=False,
        ),
        Operation(
            method="GET",
            path="/readyz",
            name="is_ready",
            says="Whether calls are taken.",
            answers={
                200: json_answer("They are.", obj("How it is", status={"const": "ready"})),
                503: json_answer(
                    "They aren't, at the moment.",
                    obj("Why", status={"const": "not ready"}, reason=text()),
                ),
            },
            needs_token=False,
        ),
        Operation(
            method="GET",
            path="/metrics",
            name="get_metrics",
            says="Metrics in Prometheus' text format.",
            answers={200: answer("They.", {"text/plain": {"schema": {"type": "string"}}})},
            needs_token=False,
        ),
        Operation(
            method="GET",
            path="/.well-known/jwks.json",
            name="get_keys",
            says="The public key of the development issuer.",
            answers={
                200: json_answer("A key set (RFC 7517).", obj("Keys", keys={"type": "array"}))
            },
            needs_token=False,
        ),
        Operation(
            method="GET",
            path="/openapi.json",
            name="get_openapi",
            says="This document.",
            answers={200: json_answer("It.", obj("An OpenAPI document", openapi=text()))},
            needs_token=False,
        ),
    ),
)
