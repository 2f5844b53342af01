// Files that go into and come out of models on the command line.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/tensor.h"

namespace octavo::cli {

// "--input-shape NAME=1x3x512x512"; without "NAME=" for a model with one input. Errors name the flag's text.
Result<std::map<std::string, Dims>> ParseInputShapes(const std::vector<std::string>& flags,
                                                     const std::vector<Value>& inputs);

// "--input NAME=FILE": .npy, .npz (its array of that name) or a picture prepared by `preprocess` ("" : none given).
// Without "NAME=": the only input's file, or a .npz that holds every input. Errors: a file that does not fit, with what
// the input wants; missing inputs when `all_required`, listed with their shapes.
Result<std::map<std::string, Tensor>> ReadInputs(const std::vector<std::string>& flags,
                                                 const std::vector<Value>& inputs, const std::string& preprocess,
                                                 bool all_required);

// Normally distributed floats from a fixed seed; zeros for every other type.
Result<Tensor> MakeRandomInput(DType dtype, const Dims& dims, uint64_t seed);

// `status` with the model's file before its message, where the library has not put it there.
Status InModel(const Status& status, const std::string& model);

std::vector<Value> InputValues(const Graph& graph);

// "input_image float32 ?x3x256x256".
std::string DescribeValue(const Value& value);

// File name of an output's array: odd characters replaced by '_', with ".npy".
std::string NpyName(const std::string& output);

// The picture's or sample's file name without folder and extension.
std::string Stem(const std::string& path);

// Makes a folder and those above it where they are not there yet. Error: names the folder.
Status MakeFolder(const std::string& folder);

// 0 where there is none.
int64_t FileBytes(const std::string& path);

// A file that ships with Octavo ("models/efficientvit-sam-nano-encoder.onnx"), looked for in $OCTAVO_DATA_DIR,
// <folder of this program>/../share/octavo and where it was built. Error: the places looked in.
Result<std::string> FindDataFile(const std::string& name);

}  // namespace octavo::cli
