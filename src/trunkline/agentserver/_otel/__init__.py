"""All that imports OpenTelemetry. Only ``_telemetry`` loads it, and only when it is asked for."""
