"""Models written to Julia's files and read again, in a live Julia."""

import pytest
from format_models import BOTTLENECK, KERAS_V1, METADATA, V1, V2, assert_same_state, random_state

from pymobilenet import TrainConfig, backend
from pymobilenet.errors import PymobilenetError, WeightsError
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


WRITE_STATES = """
using Flux: Flux
using JLD2, MobileNets
function write_states(folder, json)
    chain = MobileNets.flux_chain(MobileNet(MobileNets.from_json(MobileNetConfig, json); seed=0))
    state = Flux.state(chain)
    leaf(l) = !(l isa Union{Flux.Chain,Flux.SkipConnection})
    empty = (;)
    lux(l::Flux.Conv) = (weight=l.weight,), empty
    lux(l::Flux.Dense) = (weight=l.weight, bias=l.bias), empty
    lux(l::Flux.BatchNorm) = (scale=l.γ, bias=l.β), (running_mean=l.μ, running_var=l.σ²)
    lux(_) = empty, empty
    parts = [lux(l) for l in Flux.modules(chain) if leaf(l)]
    names = Tuple(Symbol("layer_", i) for i in eachindex(parts))
    ps, st = (NamedTuple{names}(Tuple(p[i] for p in parts)) for i in 1:2)
    at(name) = joinpath(folder, "$name.jld2")
    jldsave(at("key"); anything=state, epoch=3)
    jldsave(at("dict"); checkpoint=Dict("model" => state, "epoch" => 3))
    jldsave(at("lux"); ps, st)
    jldsave(at("several"); first=state, second=state)
    jldsave(at("nothing"); epoch=3)
    jldsave(at("whole"); model_state=chain)
    jldsave(at("function"); model_state=identity)
end
"""  # noqa: RUF001


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Files of Flux and Lux that MobileNets.jl did not write."""
    from juliacall import Main

    folder = tmp_path_factory.mktemp("states")
    backend("julia").build(V1)  # starts Julia as this project does
    Main.seval(f"module States\n{WRITE_STATES}\nend")
    Main.States.write_states(str(folder), V1.to_json())
    return folder


@pytest.mark.parametrize("name", ["key", "dict", "lux"])
def test_a_state_is_found_wherever_it_lies_and_what_it_does_not_say_is_told(states, name):
    loaded = load_any(states / f"{name}.jld2")
    expected = backend("julia").build(V1, seed=0).get_state()
    assert_same_state(loaded.state, expected)
    assumed = set(loaded.report.assumed)
    known_to_flux = {"stem_stride", "padding", "norm_eps"}
    assert assumed == {"activation", "resolution"} | (known_to_flux if name == "lux" else set())
    assert "assumed, as Metalhead builds it" in str(loaded.report)
    assert load_any(states / f"{name}.jld2", settings={"activation": "relu"}).config.activation == (
        "relu"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("several", "it has several states, first, second: save one alone, as model_state"),
        ("nothing", "no state of a model is under its keys epoch"),
        ("whole", r"it holds values of .*Flux.*: a whole model.*model_state=Flux\.state\(model\)"),
        ("function", r"it holds values of .*identity.*: a whole model, or other code"),
    ],
)
def test_a_file_without_one_state_is_refused_before_julia_reads_it(states, name, message):
    with pytest.raises(WeightsError, match=message):
        load_any(states / f"{name}.jld2")


def test_the_target_is_unchanged_if_the_config_differs(tmp_path):
    target = tmp_path / "a.jld2"
    target.write_bytes(b"what stood here before")
    save_as(tmp_path / "b.jld2", V1, random_state(V1), metadata=METADATA)
    with pytest.raises(PymobilenetError):
        convert(tmp_path / "b.jld2", target, config=V2)
    assert target.read_bytes() == b"what stood here before"
