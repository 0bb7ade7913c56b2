"""A quickstart's purchases as collectors see them that others wrote: oteltap over HTTP, and a servicer of
opentelemetry-proto over gRPC. PROGRAM."""
import asyncio
import collections
import concurrent.futures
import os
import socket
import subprocess
import sys
import tempfile

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

PROGRAM = sys.argv[1]
STAGES = {"admit", "verify", "limit", "look", "rules", "claim", "upstream", "settle"}
# Test cards of the quickstart, and how its secrets begin.
SECRETS = [b"4242424242424242", b"4000000000000002", b"4000000000003220", b"vt_", b"Bearer", b"PRIVATE"]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def buy(variables):
    """Runs the quickstart once; at its end it has told all its traces."""
    with tempfile.TemporaryDirectory() as directory:
        command = [PROGRAM, "quickstart", "--once", "--certificates", directory]
        environment = {**os.environ, **variables}
        ended = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout.decode() + ended.stderr.decode()


def attributes(span):
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def judge(name, spans):
    """Each request is a trace; that of a purchase has all its stages, and the merchant's request among them."""
    assert spans, f"{name}: no spans"
    for secret in SECRETS:
        assert not any(secret in span.SerializeToString() for span in spans), f"{name}: {secret} in a span"
    traces = collections.defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
        assert len(span.trace_id) == 16 and len(span.span_id) == 8, name
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, name
    charged = 0
    for of_one in traces.values():
        roots = [span for span in of_one if span.kind == Span.SPAN_KIND_SERVER]
        assert len(roots) == 1, f"{name}: {[span.name for span in of_one]}"
        root = roots[0]
        ids = {span.span_id for span in of_one}
        assert len(ids) == len(of_one), f"{name}: an id twice"
        for span in of_one:
            assert span is root or span.parent_span_id == root.span_id, f"{name}: {span.name} has another parent"
        asked = [span for span in of_one if span.kind == Span.SPAN_KIND_CLIENT]
        said = attributes(root)
        assert said["url.scheme"] == "https" and root.name == f"{said['http.request.method']} {said['http.route']}", said
        for span in asked:
            assert attributes(span)["server.address"] and attributes(span)["server.port"] > 0, attributes(span)
            assert attributes(span)["http.request.method"] in ("GET", "POST"), attributes(span)
        if root.name == "POST /checkout_sessions/{id}/complete" and said.get("countersign.decision") == "charged":
            charged += 1
            assert STAGES <= {span.name for span in of_one}, f"{name}: {[span.name for span in of_one]}"
            assert [attributes(span)["http.response.status_code"] for span in asked] == [200], name
            assert said["http.response.status_code"] == 200 and said["countersign.agent"] == "concierge", said
            assert root.start_time_unix_nano <= asked[0].start_time_unix_nano, name
            assert asked[0].end_time_unix_nano <= root.end_time_unix_nano, name
    assert charged >= 2, f"{name}: {charged} purchases in {len(traces)} traces"
    print(f"{name}: {len(spans)} spans in {len(traces)} traces, {charged} purchases")


async def over_http():
    port = free_port()
    async with OtelTapHttpProtobufReceiver(OtelTapHttpProtobufReceiverSettings(http_port=port)) as receiver:
        found = []

        async def gather():
            async for span in receiver.stream_traces():
                found.append(span)

        gathering = asyncio.create_task(gather())
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        await asyncio.to_thread(buy, variables)
        # All was answered; it is on its way through the receiver, until nothing more comes.
        before = -1
        while before < len(found) or not found:
            before = len(found)
            await asyncio.sleep(1)
        gathering.cancel()
    judge("HTTP, oteltap", found)


class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.found, self.services = [], set()

    def Export(self, request, context):
        assert dict(context.invocation_metadata())["x-tenant"] == "shop a"
        for of_resource in request.resource_spans:
            self.services |= {one.value.string_value for one in of_resource.resource.attributes if one.key == "service.name"}
            for of_scope in of_resource.scope_spans:
                self.found.extend(of_scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


def over_grpc():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    servicer = Servicer()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    buy({
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=shop%20a",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "pay",
    })
    server.stop(None).wait()
    assert servicer.services == {"pay"}, servicer.services
    judge("gRPC, opentelemetry-proto", servicer.found)


asyncio.run(over_http())
over_grpc()
