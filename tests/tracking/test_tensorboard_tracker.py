"""The event file, read back with TensorBoard's own reader and checked byte by byte."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

import runner
from runner.tracking.columns import Column
from runner.tracking.tensorboard import TensorBoard

DOT = PIL.Image.new("RGB", (3, 2), (0, 128, 255))


def read(directory: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit, as Castagnoli defines it: polynomial 0x1EDC6F41, reflected."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """TFRecord's mask: rotate right by 15 bits and add a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def records(path: Path) -> list[bytes]:
    """The records of a TFRecord file, their checksums verified."""
    content, found = path.read_bytes(), []
    while content:
        length, check = struct.unpack("<QI", content[:12])
        assert masked(content[:8]) == check
        message, (check,) = (
            content[12 : 12 + length],
            struct.unpack_from("<I", content, 12 + length),
        )
        assert masked(message) == check
        found.append(message)
        content = content[16 + length :]
    return found


def test_the_checksum_of_this_test_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_everything_is_read_back(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        tracker.scalars({"train/loss": 1 / step, "other": 5.0}, step)
    tracker.image("kernel/conv", DOT, 4)
    tracker.histogram("weights", np.array([0.0, 1.0, 1.0, 4.0]), 5)
    tracker.text("config", "    seed: 0 # ×")
    parameters = {"seed": 3, "lr": 0.5, "name": "sgd", "on": True, "list": [1, 2]}
    tracker.hparams(parameters, {})
    tracker.outcome({"metric/loss": 0.25})
    tracker.close()
    found = read(tmp_path)
    tags = found.Tags()

    scalars = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert scalars == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert "other" in tags["scalars"]

    (image,) = found.Images("kernel/conv")
    assert (image.step, image.width, image.height) == (4, 3, 2)
    with PIL.Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert picture.getpixel((2, 1)) == (0, 128, 255)

    (histogram,) = found.Histograms("weights")
    value = histogram.histogram_value
    assert (value.min, value.max, value.num, value.sum, value.sum_squares) == (0, 4, 4, 6, 18)
    assert sum(value.bucket) == 4
    assert len(value.bucket) == len(value.bucket_limit) <= 30
    assert value.bucket_limit[-1] == 4

    (text,) = found.Tensors("config")
    assert text.tensor_proto.string_val[0].decode() == "    seed: 0 # ×"

    metadata = found.SummaryMetadata("_hparams_/session_start_info")
    data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    shown = {key: kind(value) for key, value in data.session_start_info.hparams.items()}
    assert shown == {"seed": 3, "lr": 0.5, "name": "sgd", "on": True, "list": "[1, 2]"}
    metadata = found.SummaryMetadata("_hparams_/experiment")
    experiment = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    (metric,) = experiment.experiment.metric_infos
    assert metric.name.tag == "metric/loss"


def kind(value: Any) -> Any:
    return getattr(value, value.WhichOneof("kind"))


def test_checksums_verify_and_damage_shows(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    tracker.scalars({"a": 1.0}, 1)
    tracker.text("t", "words" * 100)
    tracker.close()
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert len(records(path)) == 3  # the version, then one each
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssertionError):
        records(path)


def test_every_record_is_on_disk_before_the_next(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    (path,) = tmp_path.iterdir()
    before = len(records(path))
    tracker.scalars({"a": 1.0}, 1)
    assert len(records(path)) == before + 1
    tracker.close()


def test_a_run_of_its_own_per_process(tmp_path: Path) -> None:
    one = TensorBoard(tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(f".{os.getpid()}")
    one.close()


def test_a_whole_run_is_read_back(workplace: Path) -> None:
    result = runner.run("task=learn_kernel")
    found = read(result.directory)
    tags = found.Tags()
    losses = [event.value for event in found.Scalars("train/loss")]
    assert losses == pytest.approx(result.metrics["losses"])
    assert [event.step for event in found.Scalars("train/loss")] == list(range(1, 11))
    assert "metric/kernel_error" in tags["scalars"]
    assert len(found.Scalars("metric/kernel_error")) == 1
    assert len(found.Images("kernel/conv")) == 10
    assert "kernel/forming" in tags["images"]
    assert tags["histograms"]
    for tag in ("command", "config", "plan"):
        assert tag in tags["tensors"] or f"{tag}/text_summary" in tags["tensors"]
    for path in result.directory.glob("events.*"):
        assert len(records(path)) > 20


def test_numbers_that_are_none_end_nothing(workplace: Path) -> None:
    """A histogram of NaN can't be drawn; the run says so and goes on."""
    result = runner.run(
        "task=forward", "stack=kernel", "data=tensor", "data.values=[[1e38, 1e38]]",
        "stack.layers.conv.weight=[[10, -10]]",
    )  # fmt: skip
    assert result.metrics["output_shape"] == [1, 1, 1, 1]
    assert (result.directory / "status.json").is_file()
    assert "could not take histogram" in (result.directory / "run.log").read_text()


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    """Killed at step 3 with a checkpoint of step 1, and measured again in another event file."""
    killed = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        killed.scalars({"train/loss": float(step)}, step)
    killed.close()
    (first,) = tmp_path.iterdir()
    first.rename(tmp_path / "events.out.tfevents.0000000000.host.1")  # it came first
    resumed = TensorBoard(tmp_path)
    resumed.rewind(1)
    resumed.scalars({"train/loss": 20.0}, 2)
    resumed.close()
    found = [(event.step, event.value) for event in read(tmp_path).Scalars("train/loss")]
    assert found == [(1, 1.0), (2, 20.0)]


def ends(directory: Path) -> list[Any]:
    """The status that TensorBoard's reader finds for a run: it takes the first there is."""
    try:
        metadata = read(directory).SummaryMetadata("_hparams_/session_end_info")
    except KeyError:
        return []
    data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    return [data.session_end_info.status]


def test_a_failed_run_that_is_taken_up_again_ends_as_it_ends_then(tmp_path: Path) -> None:
    failed = TensorBoard(tmp_path)
    failed.scalars({"train/loss": 1.0}, 1)
    failed.hparams({"lr": 0.5}, {})
    failed.outcome(None)
    failed.close()
    assert ends(tmp_path) == [api_pb2.STATUS_FAILURE]
    again = TensorBoard(tmp_path)
    assert ends(tmp_path) == []
    again.hparams({"lr": 0.5}, {})
    again.outcome({})
    again.close()
    assert ends(tmp_path) == [api_pb2.STATUS_SUCCESS]
    assert [event.value for event in read(tmp_path).Scalars("train/loss")] == [1.0]


def test_columns_of_a_sweep(tmp_path: Path) -> None:
    columns = {
        "lr": Column(text=False, differs=True),
        "name": Column(text=True, differs=True, options=("sgd", "–")),
        "steps": Column(text=True),
    }
    tracker = TensorBoard(tmp_path)
    tracker.hparams({"lr": 2, "steps": 10, "left out": 1}, columns)
    tracker.outcome({})
    tracker.close()
    found = read(tmp_path)
    metadata = found.SummaryMetadata("_hparams_/session_start_info")
    data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    cells = {key: kind(value) for key, value in data.session_start_info.hparams.items()}
    assert cells == {"lr": 2, "name": "–", "steps": "10"}
    metadata = found.SummaryMetadata("_hparams_/experiment")
    data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    infos = data.experiment.hparam_infos
    assert [(i.name, i.differs, kinds(i)) for i in infos] == [
        ("lr", True, []),
        ("name", True, ["sgd", "–"]),
        ("steps", False, []),
    ]
    assert [info.type for info in infos] == [
        api_pb2.DATA_TYPE_FLOAT64,
        api_pb2.DATA_TYPE_STRING,
        api_pb2.DATA_TYPE_STRING,
    ]


def kinds(info: Any) -> list[Any]:
    return [value.string_value for value in info.domain_discrete.values]
