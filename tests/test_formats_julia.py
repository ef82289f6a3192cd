"""Models written to Julia's files and read again, in a live Julia."""

import pytest
from format_models import BOTTLENECK, KERAS_V1, METADATA, V1, V2, assert_same_state, random_state

from pymobilenet import TrainConfig, backend
from pymobilenet.errors import PymobilenetError
from pymobilenet.formats import convert, load_any, save_as

pytestmark = pytest.mark.julia


@pytest.mark.parametrize("config", [V1, V2, BOTTLENECK, KERAS_V1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_is_byte_identical_after_julia_wrote_it(tmp_path, config, dtype):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_as(first, config, random_state(config, dtype=dtype), metadata=METADATA)
    convert(first, tmp_path / "a.jld2")
    assert load_any(tmp_path / "a.jld2").report.container == "jld2"
    convert(tmp_path / "a.jld2", second)
    assert second.read_bytes() == first.read_bytes()


def test_slots_are_not_written_and_are_counted(tmp_path):
    model = backend("torch").build(V1)
    model.set_optimizer(TrainConfig(momentum=0.9))
    state = model.get_state()
    report = save_as(tmp_path / "a.jld2", V1, state, metadata=METADATA)
    weights = {name: state[name] for name in state if not name.startswith("optimizer.")}
    count = len(state) - len(weights)
    assert report.notes == (f"the {count} optimizer slots are not written",)
    assert_same_state(load_any(tmp_path / "a.jld2").state, weights)


def test_a_file_that_only_begins_as_julias_is_refused_by_name(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"HDF5-based Julia Data Format, version 0.2.0\0".ljust(600))
    with pytest.raises(PymobilenetError, match=str(path)):
        load_any(path)


def test_the_target_is_unchanged_if_the_config_differs(tmp_path):
    target = tmp_path / "a.jld2"
    target.write_bytes(b"what stood here before")
    save_as(tmp_path / "b.jld2", V1, random_state(V1), metadata=METADATA)
    with pytest.raises(PymobilenetError):
        convert(tmp_path / "b.jld2", target, config=V2)
    assert target.read_bytes() == b"what stood here before"
