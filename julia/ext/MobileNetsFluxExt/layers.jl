# The layers of a MobileNet as layers of Flux: how they are printed, and moved to another device.

Flux.@layer Models.CrossConv
Flux.@layer Models.Norm
Flux.@layer Models.ConvNormAct
Flux.@layer Models.Classifier
Flux.@layer :noexpand Models.MobileNet
