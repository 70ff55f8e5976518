#include "cli/progress.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::cli {
namespace {

TEST(HumanBytes, HasThreeDigitsAndAUnit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "0.98 KiB");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(64.0 * 1024 * 1024), "64.0 MiB");
  EXPECT_EQ(human_bytes(300.0 * 1024 * 1024), "300 MiB");
}

TEST(ProgressText, ShowsPartAndRateWhenTheTotalIsKnown) {
  const std::string text = progress_text(512, 1024, 2);
  EXPECT_NE(text.find("[###############...............]"), std::string::npos) << text;
  EXPECT_NE(text.find("50%"), std::string::npos) << text;
  EXPECT_NE(text.find("256 B/s"), std::string::npos) << text;
}

TEST(ProgressText, NeverExceedsTheBarWhenTheInputGrew) {
  const std::string text = progress_text(5000, 1000, 1);
  EXPECT_NE(text.find("[##############################]"), std::string::npos) << text;
  EXPECT_NE(text.find("100%"), std::string::npos) << text;
}

TEST(ProgressText, ShowsAmountAndRateWhenTheTotalIsUnknownOrNothing) {
  EXPECT_EQ(progress_text(2048, std::nullopt, 1), "2.00 KiB  2.00 KiB/s");
  EXPECT_EQ(progress_text(0, 0, 0), "0 B  0 B/s");
}

}  // namespace
}  // namespace cdmf::ipc::cli
