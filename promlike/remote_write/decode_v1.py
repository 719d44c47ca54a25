"""Remote write 1.0: `prometheus.WriteRequest`, series known by the bytes of their labels."""

import numpy as np
from google.protobuf.message import DecodeError

from promlike.errors import BadRequest
from promlike.model.blocks import Int32
from promlike.model.labels import Labels
from promlike.remote_write import kernels
from promlike.remote_write.decoder import Decoder
from promlike.remote_write.kernels import Bytes
from promlike.remote_write.pb.remote_write_v1_pb2 import Exemplar, MetricMetadata, WriteRequest
from promlike.remote_write.scan import RawExemplar, Scan, Scratch
from promlike.remote_write.series_labels import parse_labels
from promlike.storage.access import Metadata


class DecoderV1(Decoder[Scratch]):
    """See `Decoder`."""

    message = "prometheus.WriteRequest"
    exemplars_count = False

    def _new_scratch(self) -> Scratch:
        return Scratch.empty()

    def _walk(self, scratch: Scratch, size: int) -> None:
        arrays = self.table.arrays
        scratch.counts[kernels.ENTRY] = arrays.last
        kernels.walk_v1(
            scratch.body,
            size,
            arrays.slots,
            arrays.entries,
            arrays.used,
            arrays.arena,
            self.table.seed,
            scratch.refs,
            scratch.ts_ms,
            scratch.values.view(np.uint64),
            scratch.spans,
            scratch.exemplars,
            scratch.counts,
        )
        arrays.last = int(scratch.counts[kernels.ENTRY])

    def _rewritten(self, data: bytes) -> bytes:
        message = WriteRequest.FromString(data)
        message.DiscardUnknownFields()
        return message.SerializeToString()

    def _check(self, scan: Scan[Scratch]) -> None:
        """There is no such rule."""

    def _read(self, scan: Scan[Scratch], span: list[int], metadata: list[Metadata]) -> Labels | None:
        data = scan.scratch.body[span[kernels.START] : span[kernels.END]].tobytes()
        if span[kernels.KIND] == kernels.UNSEEN:
            return parse_labels(data)
        metadata += parse_metadata(data)
        return None

    def _read_exemplar(self, scan: Scan[Scratch], data: bytes) -> RawExemplar:
        exemplar = Exemplar.FromString(data)
        pairs = [(label.name, label.value) for label in exemplar.labels]
        return RawExemplar(labels=pairs, value=exemplar.value, ts_ms=exemplar.timestamp)

    def _keys(self, scan: Scan[Scratch], found: Int32) -> Bytes:
        return scan.scratch.body


def parse_metadata(data: bytes) -> list[Metadata]:
    """A MetricMetadata message, unless it names no metric; an unknown type is `unknown`. Raise BadRequest when it is malformed."""
    try:
        message = MetricMetadata.FromString(data)
    except DecodeError as error:
        raise BadRequest(f"malformed protobuf in the metadata {data[:200]!r}") from error
    if not message.metric_family_name:
        return []
    types = MetricMetadata.MetricType
    return [
        Metadata(
            metric=message.metric_family_name.decode(errors="replace"),
            type=types.Name(message.type).lower() if message.type in types.values() else "unknown",
            help=message.help.decode(errors="replace"),
            unit=message.unit.decode(errors="replace"),
        )
    ]
