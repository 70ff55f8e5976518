// The C boundary is what separately built plugins rely on: its layout is frozen, and the same in C and in C++.
#include "ipc/plugin_abi.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "plugin_abi_c11.h"
#include "plugin_abi_layout.h"

namespace {

static_assert(sizeof(void*) == 8, "the frozen numbers are those of 64-bit machines");

#define SIZE(structure, expected) {"sizeof " #structure, sizeof(structure)},
#define FIELD(structure, field, expected) {#structure "." #field, offsetof(structure, field)},
const std::vector<abi_fact> kFactsOfCpp = {CDMF_ABI_LAYOUT(SIZE, FIELD)};
#undef SIZE
#undef FIELD
#define SIZE(structure, expected) {"sizeof " #structure, expected},
#define FIELD(structure, field, expected) {#structure "." #field, expected},
const std::vector<abi_fact> kFrozen = {CDMF_ABI_LAYOUT(SIZE, FIELD)};
#undef SIZE
#undef FIELD

TEST(PluginAbi, EveryFieldIsWherePluginsThatExistExpectIt) {
  for (std::size_t i = 0; i < kFrozen.size(); ++i) EXPECT_EQ(kFactsOfCpp[i].bytes, kFrozen[i].bytes) << kFrozen[i].name;
}

TEST(PluginAbi, CAndCppAgreeOnEveryField) {
  std::size_t count = 0;
  for (; kFactsOfC[count].name != nullptr; ++count) {
    ASSERT_LT(count, kFactsOfCpp.size());
    EXPECT_EQ(std::string_view(kFactsOfC[count].name), kFactsOfCpp[count].name);
    EXPECT_EQ(kFactsOfC[count].bytes, kFactsOfCpp[count].bytes) << kFactsOfC[count].name;
  }
  EXPECT_EQ(count, kFactsOfCpp.size());
}

TEST(PluginAbi, EveryVersionedStructureStartsWithItsSize) {
  for (const abi_fact& fact : kFactsOfCpp) {
    if (std::string_view(fact.name).ends_with(".struct_size")) {
      EXPECT_EQ(fact.bytes, 0u) << fact.name;
    }
  }
}

TEST(PluginAbi, TheSymbolNamesTheMajor) {
  EXPECT_EQ(std::string_view(CDMF_PLUGIN_SYMBOL), "cdmf_plugin_v" + std::to_string(CDMF_ABI_MAJOR));
}

TEST(PluginAbi, EnumerationsThatCrossTheBoundaryHaveTheSizeOfAnInt) {
  EXPECT_EQ(sizeof(cdmf_role), sizeof(int));
  EXPECT_EQ(sizeof(cdmf_arm_result), sizeof(int));
  EXPECT_TRUE((std::is_same_v<cdmf_status, std::int32_t>));
}

}  // namespace
