folder = mktempdir()
record(coarse, fine, value) = [UInt8[coarse, fine]; fill(UInt8(value), 3072)]
put(bytes...) = write(joinpath(folder, "test.bin"), reduce(vcat, bytes))
rejection(split=:test) = message(() -> read_cifar100(folder, split), DataError)

@testset "records are read with both labels, image rows along the second axis" begin
    second = record(19, 99, 0)
    second[2 .+ (2:3)] .= 5
    second[2 + 33] = 6
    second[2 + 1024 + 1] = 7
    put(record(3, 42, 9), second)
    (; images, labels, coarse) = read_cifar100(folder, :test)
    @test size(images) == (32, 32, 3, 2)
    @test read_cifar100(folder, "test") == (; images, labels, coarse)
    @test (labels, coarse) == ([42, 99], [3, 19])
    @test all(==(9), images[:, :, :, 1])
    @test images[1:3, 1, 1, 2] == [0, 5, 5]
    @test (images[1, 2, 1, 2], images[1, 1, 2, 2]) == (6, 7)
end

@testset "a file that is missing, truncated or out of range is rejected" begin
    @test occursin("train.bin is missing", rejection(:train))
    @test occursin("split must be", rejection(:val))
    put(record(3, 42, 9), UInt8[1])
    @test occursin("3075 bytes; the size must be a positive multiple of 3074", rejection())
    put(UInt8[])
    @test occursin("0 bytes", rejection())
    put(record(1, 1, 0), record(1, 100, 0))
    @test occursin("fine label 100 at byte 3075; it must be below 100", rejection())
    put(record(20, 1, 0))
    @test occursin("coarse label 20 at byte 0", rejection())
end

@testset "CIFAR-10 is read from five files of training images in order, with one label each" begin
    for k in 1:5
        write(joinpath(folder, "data_batch_$k.bin"), [UInt8[10 - k]; fill(UInt8(k), 3072)])
    end
    write(joinpath(folder, "test_batch.bin"), repeat([UInt8[0]; fill(UInt8(7), 3072)], 2))
    (; images, labels) = read_cifar10(folder)
    @test size(images) == (32, 32, 3, 5) && images isa Array{UInt8,4}
    @test images[1, 1, 1, :] == 1:5 && labels == 9:-1:5
    @test size(read_cifar10(folder, :test).images, 4) == 2
    rejection_10(split=:train) = message(() -> read_cifar10(folder, split), DataError)
    @test occursin("split must be", rejection_10(:val))
    write(joinpath(folder, "data_batch_4.bin"), [UInt8[10]; fill(UInt8(4), 3072)])
    @test occursin("data_batch_4.bin: label 10 at byte 0; it must be below 10", rejection_10())
    write(joinpath(folder, "data_batch_4.bin"), UInt8[10])
    @test occursin("1 bytes; the size must be a positive multiple of 3073", rejection_10())
    rm(joinpath(folder, "data_batch_4.bin"))
    @test occursin("data_batch_4.bin is missing: it is a file of the binary version of CIFAR-10", rejection_10())
end
