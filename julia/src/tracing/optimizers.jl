# Steps of a rule of Optimisers.jl, from given gradients.

"""
    optimizer_steps(rule, parameters, gradients, rates)

The parameters after each step of `rule`, a vector of vectors of arrays. `parameters` is a vector of arrays, which stay
as they are; `gradients` has such a vector for each step, and `rates` a number, which `Optimisers.adjust!` sets; if it
is empty, the rule stays as it is.
"""
function optimizer_steps(rule, parameters, gradients, rates)
    current = Any[copy(array) for array in parameters]
    state = Optimisers.setup(rule, current)
    return map(enumerate(gradients)) do (step, gradient)
        isempty(rates) || Optimisers.adjust!(state, rates[step])
        state, current = Optimisers.update(state, current, Any[array for array in gradient])
        Any[copy(array) for array in current]
    end
end
