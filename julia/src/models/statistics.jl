# The running statistics of the norms, which training updates.

"""
    update_running_statistics!(units, statistics, image_size)

Update the running statistics of units, which were called one after the other, with the batch's means and biased
variances: `(1 - momentum) * running + momentum * batch`, with the unbiased variance, the biased one times m / (m - 1)
for m values per channel. `image_size` is the size (W, H, C, N) of the input of the first unit.
"""
function update_running_statistics!(units, statistics, image_size)
    columns, rows, _, images = image_size
    for ((; conv, norm), (mean, var)) in zip(units, statistics)
        columns, rows = output_size(conv, columns), output_size(conv, rows)
        count = columns * rows * images
        update_running!(norm.running_mean, mean, norm.momentum, 1)
        unbias = count / (count - 1)
        update_running!(norm.running_var, var, norm.momentum, unbias)
    end
end

update_running!(running, batch, momentum, factor) =
    @. running = (1 - momentum) * running + momentum * (factor * batch)

"Width (or height) of the output of a convolution for an input of width (or height) `pixels`."
Configs.output_size(conv::CrossConv, pixels) = output_size(pixels, size(conv.weight, 1), conv.stride, conv.padding)
