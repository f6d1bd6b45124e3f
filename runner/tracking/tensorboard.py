"""TensorBoard event files, written record by record.

`torch.utils.tensorboard` would do, and does the same, but importing it costs half a second and it
starts a thread per run. An event file is a sequence of protocol buffers, each with its length and
two checksums (the TFRecord format); this writes them with TensorBoard's own message classes.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from runner.tracking import Tracker
from runner.tracking.columns import Column, row
from runner.tracking.files import png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

NAME = "events.out.tfevents."
"""How the names of event files begin. A number follows: the time, in seconds, or a later one."""

FAILED = ".failed"
"""How the name of the event file ends that says no more than that a run failed."""

KINDS = {
    bool: (api_pb2.DATA_TYPE_BOOL, "bool_value"),
    int: (api_pb2.DATA_TYPE_FLOAT64, "number_value"),
    float: (api_pb2.DATA_TYPE_FLOAT64, "number_value"),
    str: (api_pb2.DATA_TYPE_STRING, "string_value"),
}
"""What the HParams page can hold, by Python's type."""


class TensorBoard(Tracker):
    """Writes one event file into a directory, which TensorBoard shows as one run.

    It belongs to the process that made it: after a fork, the child must make its own.
    """

    def __init__(self, directory: Path) -> None:
        for earlier in directory.glob(f"events.*{FAILED}"):
            earlier.unlink()
        self._directory, self._started = directory, time.time()
        self._number = max([int(self._started), *(1 + number for number in _numbers(directory))])
        self._kinds: dict[str, str] = {}
        self._columns: list[api_pb2.HParamInfo] = []
        self._open()

    def _open(self, suffix: str = "") -> None:
        """Go on in a new file."""
        name = f"{NAME}{self._number}.{socket.gethostname()}.{os.getpid()}"
        self._file = (self._directory / f"{name}{suffix}").open("ab")
        try:
            self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        except OSError:
            with suppress(OSError):  # the same again
                self._file.close()
            raise

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One curve per tag."""
        self._summary(
            [summary_pb2.Summary.Value(tag=t, simple_value=v) for t, v in values.items()], step
        )

    def image(self, tag: str, picture: Image, step: int = 0) -> None:
        """A picture on the Images page."""
        encoded = summary_pb2.Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=3,
            encoded_image_string=png(picture),
        )
        self._summary([summary_pb2.Summary.Value(tag=tag, image=encoded)], step)

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int = 0) -> None:
        """A distribution on the Histograms page, in at most 30 buckets."""
        import numpy as np  # here, so that a plan doesn't wait for it

        flat = np.asarray(values).ravel()
        counts, edges = np.histogram(flat, bins=30)
        message = summary_pb2.HistogramProto(
            min=flat.min(),
            max=flat.max(),
            num=flat.size,
            sum=flat.sum(dtype=np.float64),
            sum_squares=np.einsum("i,i->", flat, flat, dtype=np.float64),
            bucket_limit=edges[1:].tolist(),
            bucket=counts.tolist(),
        )
        self._summary([summary_pb2.Summary.Value(tag=tag, histo=message)], step)

    def text(self, tag: str, markdown: str) -> None:
        """Markdown on the Text page."""
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[markdown.encode()])
        value = summary_pb2.Summary.Value(tag=tag, metadata=_plugin("text"), tensor=tensor)
        self._summary([value], 0)

    def hparams(self, parameters: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
        """A row of the HParams page, in this same run, so that it leads to this run's curves."""
        cells = row(parameters, columns)
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=self._started)
        for name, cell in cells.items():
            kind, field = KINDS[type(cell)]
            setattr(start.hparams[name], field, cell)
            # The page has what differs first, and shows that much of it.
            column = columns.get(name, Column(text=False))
            info = api_pb2.HParamInfo(name=name, type=kind, differs=column.differs)
            if column.options:
                info.domain_discrete.extend(column.options)
            self._columns.append(info)
        self._hparams(session_start_info=start)

    def outcome(self, metrics: Mapping[str, float] | None) -> None:
        """The rest of the row; a run that failed has no metrics there, but says so."""
        status = api_pb2.STATUS_FAILURE if metrics is None else api_pb2.STATUS_SUCCESS
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        if metrics is None:
            # TensorBoard takes the first end that a run's files tell of. One that failed may be
            # taken up again and end better: then this one is forgotten with its file.
            self._file.close()
            self._open(FAILED)
            self._hparams(session_end_info=end)
            return
        infos = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
        # The page's columns are those that the first such message lists, of whatever run.
        experiment = api_pb2.Experiment(hparam_infos=self._columns, metric_infos=infos)
        self._hparams(experiment=experiment, session_end_info=end)

    def _hparams(self, **contents: Any) -> None:
        """Messages of the HParams plugin, by the names that its tags end in."""
        self._summary(
            [
                summary_pb2.Summary.Value(
                    tag=f"_hparams_/{name}",
                    metadata=_plugin("hparams", _hparams({name: content})),
                )
                for name, content in contents.items()
            ],
            0,
        )

    def rewind(self, step: int) -> None:
        """Tell TensorBoard that the run starts again after `step`; it drops what came later."""
        again = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=again))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _summary(self, values: list[summary_pb2.Summary.Value], step: int) -> None:
        for value in values:
            kind = value.WhichOneof("value") or "metadata"
            # TensorBoard shows only the first kind that a tag was used for.
            if self._kinds.setdefault(value.tag, kind) != kind:
                raise ValueError(f"tag '{value.tag}' is taken for another kind of data")
        summary = summary_pb2.Summary(value=values)
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: event_pb2.Event) -> None:
        """One TFRecord: length, its checksum, the message, its checksum; flushed at once."""
        message = event.SerializeToString()
        length = struct.pack("<Q", len(message))
        self._file.write(length + _checksum(length) + message + _checksum(message))
        self._file.flush()


def _numbers(directory: Path) -> Iterator[int]:
    """Those of a directory's event files; TensorBoard reads them in the order of their names.

    So the next number must be greater, though the clock may have been set back since.
    """
    for path in directory.glob(f"{NAME}*"):
        if found := re.match(r"\d+", path.name.removeprefix(NAME)):
            yield int(found[0])


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as the TFRecord format asks, so that a file of checksums has good ones."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _plugin(name: str, content: bytes = b"") -> summary_pb2.SummaryMetadata:
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=name, content=content)
    return summary_pb2.SummaryMetadata(plugin_data=data)


def _hparams(content: Mapping[str, Any]) -> bytes:
    data: bytes = plugin_data_pb2.HParamsPluginData(version=0, **content).SerializeToString()
    return data
