"Jobs of the benchmark for MobileNets.jl, stock Flux and Metalhead, each made from a model, images and labels."
module Peers

using Flux: Flux
using MobileNets: TrainConfig, Workspace, flux_chain, freeze, setup_optimizer, train_step!

function own_step(model, x, labels)
    optimizer, workspace = setup_optimizer(TrainConfig(; optimizer=:adam, rate=1e-3), model), Workspace()
    return () -> first(train_step!(model, optimizer, x, labels, 1e-3; workspace))
end

function own_predict(model, x, _)
    frozen = freeze(model)
    return () -> frozen(x)
end

onehot(model, labels) = Flux.onehotbatch(labels, 0:(model.config.num_classes - 1))

"One step of Adam, as in Flux's documentation."
function training_step(net, x, y)
    state = Flux.setup(Flux.Adam(1.0f-3), Flux.trainmode!(net))
    return function ()
        loss, gradients = Flux.withgradient(net -> Flux.logitcrossentropy(net(x), y), net)
        Flux.update!(state, net, gradients[1])
        return loss
    end
end

flux_step(model, x, labels) = training_step(flux_chain(model), x, onehot(model, labels))

function prediction(net, x)
    Flux.testmode!(net)
    return () -> net(x)
end

flux_predict(model, x, _) = prediction(flux_chain(model), x)

has_metalhead() = !isnothing(Base.find_package("Metalhead"))

"Metalhead's model of the same config, with its own weights; its stems have stride 2."
function metalhead(model)
    Metalhead = Base.require(Main, :Metalhead)
    (; family, width_mult, num_classes) = model.config
    kind = family == "v1" ? :MobileNetv1 : :MobileNetv2
    return Base.invokelatest(getfield(Metalhead, kind), width_mult; nclasses=num_classes)
end

metalhead_step(model, x, labels) = training_step(metalhead(model), x, onehot(model, labels))

metalhead_predict(model, x, _) = prediction(metalhead(model), x)

end
