#include "rpc/method_numbers.h"

#include <gtest/gtest.h>

#include <string>

namespace cdmf::ipc::rpc {
namespace {

TEST(MethodNumbers, ANameKeepsItsNumberAndWhenAllAreGivenOthersGetNone) {
  EXPECT_EQ(method_of_number(1), "");
  const auto first = number_of_method("first");
  EXPECT_EQ(first, 1);
  EXPECT_EQ(number_of_method("second"), 2);
  EXPECT_EQ(number_of_method("first"), first);
  EXPECT_EQ(method_of_number(first), "first");
  for (int i = 2; i < kMethodNumberMax; ++i) EXPECT_EQ(number_of_method("method " + std::to_string(i)), i + 1);
  EXPECT_EQ(number_of_method("one more"), 0);
  EXPECT_EQ(number_of_method("second"), 2);
  EXPECT_EQ(method_of_number(kMethodNumberMax), "method 126");
  EXPECT_EQ(method_of_number(0), "");
  EXPECT_EQ(method_of_number(kMethodNumberMax + 1), "");
}

}  // namespace
}  // namespace cdmf::ipc::rpc
