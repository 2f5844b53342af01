#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "quantize/quantize_testing.h"
#include "quantize/recipe_hash.h"

namespace octavo {
namespace {

using testing::HasSubstr;

Recipe SmallRecipe() {
  Recipe recipe;
  recipe.fingerprint = "abc";
  recipe.target = "octavo";
  recipe.estimator = "mse";
  recipe.activations = {{"x", {"a", "b\"c"}, DType::kUInt8, 0.1f, 7, "Conv operand"},
                        {"y", {}, DType::kInt8, 1e-20f, 0, ""},
                        {"z", {}, DType::kUInt8, 1.0f, 3, "result of Conv", "a"}};
  recipe.weights = {{"a", 1, 0, {0.1f, 0x1p-60f, 3.4028234e38f}, "scale per output channel"},
                    {"b\"c", 0, -1, {1.0f}, "", {-2, 2, 0, 1, -1}}};
  recipe.float_nodes = {
      {"d", "both operands are activations"}, {"e", "", DType::kBFloat16}, {"f", "", DType::kFloat16}};
  recipe.remedies = {{"equalize", true, 36.71, 37.5, "gains"}, {"migrate", false, -0.1, -3e-17, ""}};
  recipe.deferrals = {{"s"}};
  recipe.migrations = {{"x", {"a"}, {1, 2, 1, 1}, {0.1f, 64.0f}}};
  recipe.rescales = {{"a", 1, {2}, {0.5f, 3.4028234e38f}}};
  recipe.biases = {{"a", {-0.1f, 0.0f}}};
  return recipe;
}

std::string ErrorOf(const std::string& text) {
  const auto recipe = ParseRecipe(text, "r.json");
  return recipe.ok() ? "no error" : recipe.status().message();
}

TEST(Recipe, ReadsWhatItWrites) {
  const std::string text = FormatRecipe(SmallRecipe());
  const auto read = ParseRecipe(text, "r.json");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(FormatRecipe(*read), text);
  EXPECT_EQ(read->activations[0].consumers, SmallRecipe().activations[0].consumers);
  EXPECT_TRUE(read->activations[1].consumers.empty());
  EXPECT_EQ(read->activations[1].dtype, DType::kInt8);
  EXPECT_EQ(read->activations[1].result_of, "");
  EXPECT_EQ(read->activations[2].result_of, "a");
  EXPECT_EQ(read->weights[0].scales, SmallRecipe().weights[0].scales);
  EXPECT_EQ(read->weights[1].axis, -1);
  EXPECT_TRUE(read->weights[0].offsets.empty());
  EXPECT_EQ(read->weights[1].offsets, SmallRecipe().weights[1].offsets);
  EXPECT_EQ(read->float_nodes[0].reason, "both operands are activations");
  EXPECT_EQ(read->float_nodes[0].precision, DType::kFloat32);
  EXPECT_EQ(read->float_nodes[1].precision, DType::kBFloat16);
  EXPECT_EQ(read->float_nodes[2].precision, DType::kFloat16);
  EXPECT_TRUE(read->remedies[0].kept);
  EXPECT_EQ(read->remedies[0].gain_db, 37.5);
  EXPECT_EQ(read->deferrals[0].node, "s");
  EXPECT_EQ(read->migrations[0].factors, SmallRecipe().migrations[0].factors);
  EXPECT_EQ(read->rescales[0].dims, SmallRecipe().rescales[0].dims);
  EXPECT_EQ(read->biases[0].values, SmallRecipe().biases[0].values);
}

TEST(Recipe, IsReadable) {
  const std::string text = FormatRecipe(SmallRecipe());
  EXPECT_THAT(text, HasSubstr("\"dtype\":\"uint8\",\"scale\":0.1,\"zero_point\":7"));
  EXPECT_THAT(text, HasSubstr("\"consumers\":\"all\""));
  EXPECT_THAT(text, HasSubstr("{\"node\":\"e\",\"precision\":\"bf16\",\"reason\":\"\"}"));
  EXPECT_THAT(text, HasSubstr("\"offsets\":\"ENb\""));
}

TEST(Recipe, KeepsEveryBitOfScales) {
  std::mt19937 random(3);
  Recipe recipe;
  recipe.weights.push_back({"a", 1, 0, {}, ""});
  while (recipe.weights[0].scales.size() < 20000) {
    const auto scale = std::bit_cast<float>(static_cast<uint32_t>(random()) & 0x7FFFFFFFU);
    if (std::isnormal(scale)) recipe.weights[0].scales.push_back(scale);
  }
  EXPECT_EQ(ParseRecipe(FormatRecipe(recipe), "r")->weights[0].scales, recipe.weights[0].scales);
}

TEST(Recipe, HashFollowsTheDecisions) {
  Recipe recipe = SmallRecipe();
  const std::string hash = RecipeHash(recipe);
  EXPECT_EQ(RecipeHash(SmallRecipe()), hash);
  recipe.activations[0].zero_point = 8;
  EXPECT_NE(RecipeHash(recipe), hash);
}

TEST(Recipe, NamesWhatIsWrong) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("r.json: this is no JSON"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("no object"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("\"octavo_recipe\" is missing"));
  EXPECT_THAT(ErrorOf(R"({"octavo_recipe": 2})"), HasSubstr("format 2"));
  EXPECT_THAT(ErrorOf(R"({"octavo_recipe": 1, "wieghts": []})"), HasSubstr("unknown key 'wieghts'"));
  const auto activation = [](const std::string& members) {
    return ErrorOf(R"({"octavo_recipe": 1, "activations": [{)" + members + "}]}");
  };
  EXPECT_THAT(activation(""), HasSubstr("r.json: activations[0]: \"tensor\" is missing"));
  const std::string rest = R"("tensor": "x", "dtype": "int8", "zero_point": 0, )";
  EXPECT_EQ(activation(rest + R"("scale": 1)"), "no error");
  EXPECT_THAT(activation(rest + R"("scale": "1")"), HasSubstr("\"scale\" must be a number"));
  EXPECT_THAT(activation(rest + R"("scale": 1, "consumers": [])"), HasSubstr("\"consumers\" must be"));
  EXPECT_THAT(activation(rest + R"("scale": 1, "consumers": [3])"), HasSubstr("\"consumers\" must be"));
  EXPECT_THAT(activation(R"("tensor": "x", "dtype": "int4", "scale": 1, "zero_point": 0)"),
              HasSubstr("\"dtype\" must be"));
  EXPECT_THAT(activation(R"("tensor": "x", "dtype": "int8", "scale": 1, "zero_point": 18446744073709551615)"),
              HasSubstr("\"zero_point\" must be a small integer"));
  EXPECT_THAT(ErrorOf(R"({"octavo_recipe": 1, "weights": [{"node": "a", "input": 1, "axis": -1, "scales": [1]}]})"),
              HasSubstr("weights[0]: \"axis\" must be"));
  EXPECT_THAT(ErrorOf(R"({"octavo_recipe": 1, "weights": [{"node": "a", "input": 1, "scales": [true]}]})"),
              HasSubstr("a list of numbers"));
  const auto offsets = [](const std::string& text) {
    return ErrorOf(R"({"octavo_recipe": 1, "weights": [{"node": "a", "input": 1, "scales": [1], "offsets": ")" + text +
                   "\"}]}");
  };
  EXPECT_EQ(offsets("AYMe"), "no error");
  for (const char* text : {"AZ", "A@", "aA", "Af", "A\xC3\xA9"}) {
    EXPECT_THAT(offsets(text), HasSubstr("weights[0]: \"offsets\" must be letters")) << text;
  }
}

TEST(Recipe, FloatNodesAreFp32UnlessTheySayOtherwise) {
  const auto recipe = ParseRecipe(R"({"octavo_recipe": 1, "float": [{"node": "a"}]})", "r");
  ASSERT_TRUE(recipe.ok());
  EXPECT_EQ(recipe->float_nodes[0].precision, DType::kFloat32);
  EXPECT_THAT(ErrorOf(R"({"octavo_recipe": 1, "float": [{"node": "a", "precision": "fp8"}]})"),
              HasSubstr("float[0]: \"precision\" must be \"fp32\", \"bf16\" or \"fp16\""));
  EXPECT_THAT(ErrorOf(R"({"octavo_recipe": 1, "float": [{"node": "a", "precision": 16}]})"),
              HasSubstr("\"precision\" must be"));
}

TEST(Recipe, RefusesDeepNesting) { EXPECT_THAT(ErrorOf(std::string(1 << 20, '[')), HasSubstr("nested too deeply")); }

TEST(Recipe, ReadsScalesPastFloatAsInfinity) {
  const auto recipe =
      ParseRecipe(R"({"octavo_recipe": 1, "weights": [{"node": "a", "input": 1, "scales": [1e300]}]})", "r");
  ASSERT_TRUE(recipe.ok());
  EXPECT_TRUE(std::isinf(recipe->weights[0].scales[0]));  // and ApplyRecipe refuses it
}

}  // namespace
}  // namespace octavo
